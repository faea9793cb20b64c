/** The page's texts in English and Chinese: chosen by the browser, switchable, remembered. */

import { browser } from './storage.js';

const texts = {
  en: {
    actions: 'Actions',
    actions_of: 'Actions of “{title}”',
    ai_generated: 'AI generated',
    cached: 'From the cache',
    cancel: 'Cancel',
    clear_search: 'Clear the search',
    close: 'Close',
    copied: 'Copied',
    copy: 'Copy',
    copy_failed: 'The browser did not allow copying',
    copy_link: 'Copy the link',
    code: 'Code',
    conversations: 'Conversations',
    csv: 'CSV',
    delete: 'Delete',
    deleted_named: '“{title}” is deleted.',
    demo_key: 'Set it in the environment or in the file .env and start the server again:',
    demo_title: 'The offline demo model is answering.',
    demo_why: 'To talk to a real model, give the server an API key.',
    discard: 'Discard',
    earlier: 'Earlier messages',
    edit: 'Edit',
    edit_message: 'Edit the message',
    ended_content_filter: 'Cut off by a content filter',
    ended_length: 'Cut off: the reply reached its length limit',
    ended_refusal: 'The model declined to answer',
    ended_tool_calls: 'Cut off: the model called a tool, and there are no tools here',
    empty_list: 'Your conversations will appear here.',
    expires: 'expires {in}',
    expiry_hint: 'A conversation is deleted {time} after its last message, unless you keep it.',
    expires_soon: 'expires within a minute',
    export: 'Export',
    export_all: 'Export everything',
    found: 'Found: {count}',
    gone: 'This conversation no longer exists: it was deleted or has expired.',
    group_last_week: 'Last 7 days',
    group_older: 'Older',
    group_pinned: 'Kept',
    group_today: 'Today',
    group_yesterday: 'Yesterday',
    hide_list: 'Hide conversations',
    json: 'JSON',
    key: 'Key',
    key_missing: 'Enter a key.',
    key_wrong: 'This key is not right. It begins with ck_; check that it is whole.',
    language: '中文',
    language_hint: 'Switch to Chinese (中文)',
    line_break: 'Break the line',
    link: 'Link',
    list_failed: 'The conversations could not be loaded.',
    loading: 'Loading…',
    markdown: 'Markdown',
    menu: 'Show conversations',
    message: 'Message',
    messages: 'Messages',
    more: 'Show more',
    new_conversation: 'New conversation',
    new_title: 'New title',
    next: 'Next version',
    not_sent: 'Not sent: “{text}”',
    nothing_found: 'Nothing found.',
    open_failed: 'This conversation could not be opened.',
    pin: 'Keep',
    previous: 'Previous version',
    print: 'Print',
    print_cut: 'Not all messages are printed here. To print all of them, press Ctrl+P (⌘P on a Mac) on the page itself.',
    print_loading: 'Loading all messages to print them…',
    reasoning: 'Reasoning',
    reconnecting: 'The connection was lost. Reconnecting…',
    regenerate: 'Regenerate',
    rename: 'Rename',
    reply_begins: 'The reply begins.',
    reply_ended: 'The reply is complete.',
    role_assistant: 'Reply',
    role_user: 'You',
    search: 'Search',
    search_hint: 'Search conversations',
    send: 'Send',
    settings: 'Settings',
    share: 'Share…',
    share_anew: 'Make a new link',
    share_anew_hint: 'A link is shown only when it is made. A new one shows what stands here now; the old one ends.',
    share_gone: 'This link leads nowhere: it was ended, or the conversation no longer exists.',
    share_hint:
      'Whoever has the link can read the messages that stand here now, without signing in. What is said later is not shown. The link ends with the conversation, or when you stop sharing.',
    share_make: 'Make a link',
    share_once: 'Copy the link now: it is not shown again.',
    share_stop: 'Stop sharing',
    share_title: 'Share by link',
    shared_note: 'Somebody shared this conversation for reading. Replies are AI generated.',
    shared_since: 'Shared since {time}.',
    shared_title: 'Shared conversation',
    shortcuts: 'Keyboard shortcuts',
    sign_in: 'Sign in',
    sign_in_admin: 'This page needs a key with the scope admin.',
    sign_in_again: 'You are signed out: your key has ended. Once you sign in everything goes on where it was.',
    sign_in_denied: 'The sign-in was refused.',
    sign_in_failed: 'The sign-in did not succeed. Try again.',
    sign_in_hint: 'This server asks for a key. Whoever runs it makes one with “chatkeep keys create”.',
    sign_in_not_kept: 'The browser did not keep the sign-in. Allow cookies for this site.',
    sign_in_unavailable: 'Signing in is not possible now. Try again later.',
    sign_in_with: 'Sign in with {name}',
    sign_out: 'Sign out',
    signed_in_as: 'Signed in as {name}',
    status_failed: 'No reply',
    status_interrupted: 'Interrupted: the server stopped while it was replying',
    status_stopped: 'Stopped',
    status_truncated: 'Cut off before its end',
    stop: 'Stop',
    stopping: 'Stopping…',
    theme: 'Theme',
    theme_dark: 'Dark',
    theme_light: 'Light',
    theme_system: 'System',
    thinking: 'Thinking…',
    thought_for: 'Thought for',
    to_end: 'To the end',
    try_again: 'Try again',
    turn_pages: 'Scroll the messages',
    undo: 'Undo',
    undo_deletion: 'Undo a deletion',
    unpin: 'Stop keeping',
    untitled: 'New conversation',
    wait: 'Try again in {seconds} s.',
    welcome: 'What is on your mind?',
    welcome_hint: 'Every conversation is kept on this server until it expires or you delete it.',
    problem_body_too_large: 'The message is too long. Shorten it, or send it in several parts.',
    problem_context_length_exceeded: 'The message is too long for the model.',
    problem_database_full: 'The disk is full.',
    problem_database_read_only: 'The database is read-only.',
    problem_database_refused: 'The database refused this.',
    problem_database_unavailable: 'The database is not available.',
    problem_empty_reply: 'The model gave no answer.',
    problem_http_error: 'The server answered with an error (HTTP {status}).',
    problem_internal_error: 'Something went wrong in the server.',
    problem_key_expired: 'This key has expired.',
    problem_key_revoked: 'This key was revoked and lets nobody in any more.',
    problem_missing_scope: 'Your key may not do that.',
    problem_provider_broke: 'The model’s provider failed.',
    problem_provider_busy: 'The model’s provider is busy.',
    problem_provider_quota_exceeded: 'The quota at the model’s provider is used up.',
    problem_provider_refused: 'The model’s provider refused the request.',
    problem_provider_timeout: 'The model’s provider did not answer in time.',
    problem_sensitive_content: 'The message holds sensitive information and was not sent.',
    problem_turn_running: 'A reply is being generated in this conversation.',
    problem_unreachable: 'The server cannot be reached. Check your connection.',
  },
  zh: {
    actions: '操作',
    actions_of: '“{title}”的操作',
    ai_generated: 'AI 生成',
    cached: '来自缓存',
    cancel: '取消',
    clear_search: '清除搜索内容',
    close: '关闭',
    copied: '已复制',
    copy: '复制',
    copy_failed: '浏览器不允许复制',
    copy_link: '复制链接',
    code: '代码',
    conversations: '对话',
    csv: 'CSV',
    delete: '删除',
    deleted_named: '已删除“{title}”。',
    demo_key: '请在环境变量或 .env 文件中设置，然后重新启动服务器：',
    demo_title: '当前由离线演示模型回答。',
    demo_why: '要使用真实模型，请为服务器设置 API 密钥。',
    discard: '放弃',
    earlier: '更早的消息',
    edit: '编辑',
    edit_message: '编辑消息',
    ended_content_filter: '已被内容过滤器截断',
    ended_length: '已截断：达到长度上限',
    ended_refusal: '模型拒绝回答',
    ended_tool_calls: '已截断：模型要求调用工具，此处不提供工具',
    empty_list: '您的对话会显示在这里。',
    expires: '{in}过期',
    expiry_hint: '最后一条消息发出{time}后，对话将被删除；点击“保留”可长期保存。',
    expires_soon: '一分钟内过期',
    export: '导出',
    export_all: '导出全部对话',
    found: '找到：{count}',
    gone: '这个对话已不存在：它已被删除或已过期。',
    group_last_week: '过去 7 天',
    group_older: '更早',
    group_pinned: '已保留',
    group_today: '今天',
    group_yesterday: '昨天',
    hide_list: '隐藏对话列表',
    json: 'JSON',
    key: '密钥',
    key_missing: '请输入密钥。',
    key_wrong: '密钥不正确。密钥以 ck_ 开头，请检查是否完整。',
    language: 'English',
    language_hint: '切换到英文（English）',
    line_break: '换行',
    link: '链接',
    list_failed: '无法加载对话列表。',
    loading: '加载中…',
    markdown: 'Markdown',
    menu: '显示对话列表',
    message: '消息',
    messages: '消息',
    more: '显示更多',
    new_conversation: '新对话',
    new_title: '新标题',
    next: '下一个版本',
    not_sent: '未发送：“{text}”',
    nothing_found: '没有找到。',
    open_failed: '无法打开这个对话。',
    pin: '保留',
    previous: '上一个版本',
    print: '打印',
    print_cut: '此处未打印全部消息。如需完整打印，请直接在页面上按 Ctrl+P（Mac 上按 ⌘P）。',
    print_loading: '正在加载全部消息以供打印…',
    reasoning: '思考过程',
    reconnecting: '连接已断开，正在重新连接…',
    regenerate: '重新生成',
    rename: '重命名',
    reply_begins: '开始回复。',
    reply_ended: '回复完成。',
    role_assistant: '回复',
    role_user: '您',
    search: '搜索',
    search_hint: '搜索对话',
    send: '发送',
    settings: '设置',
    share: '分享…',
    share_anew: '生成新链接',
    share_anew_hint: '链接只在生成时显示。新链接展示此刻的内容，旧链接随之失效。',
    share_gone: '此链接无效：分享已停止，或对话已不存在。',
    share_hint: '获得链接的人无需登录即可阅读此刻已有的消息，之后的内容不会显示。对话不再存在或您停止分享时，链接失效。',
    share_make: '生成链接',
    share_once: '请现在复制链接：它不会再次显示。',
    share_stop: '停止分享',
    share_title: '通过链接分享',
    shared_note: '有人分享了这段对话供阅读。回复由 AI 生成。',
    shared_since: '自 {time} 起已分享。',
    shared_title: '分享的对话',
    shortcuts: '键盘快捷键',
    sign_in: '登录',
    sign_in_admin: '此页面需要具有 admin 权限的密钥。',
    sign_in_again: '您已退出登录：密钥已失效。重新登录后，一切将从原处继续。',
    sign_in_denied: '登录被拒绝。',
    sign_in_failed: '登录未成功，请重试。',
    sign_in_hint: '此服务器需要密钥。服务器管理员可用“chatkeep keys create”创建。',
    sign_in_not_kept: '浏览器没有保存登录状态。请允许本网站使用 Cookie。',
    sign_in_unavailable: '目前无法登录，请稍后再试。',
    sign_in_with: '使用 {name} 登录',
    sign_out: '退出登录',
    signed_in_as: '已登录：{name}',
    status_failed: '没有回复',
    status_interrupted: '已中断：服务器在回复过程中停止',
    status_stopped: '已停止',
    status_truncated: '回复未完整结束',
    stop: '停止',
    stopping: '正在停止…',
    theme: '主题',
    theme_dark: '深色',
    theme_light: '浅色',
    theme_system: '跟随系统',
    thinking: '正在思考…',
    thought_for: '思考用时',
    to_end: '回到底部',
    try_again: '重试',
    turn_pages: '滚动消息',
    undo: '撤销',
    undo_deletion: '撤销删除',
    unpin: '取消保留',
    untitled: '新对话',
    wait: '请在 {seconds} 秒后重试。',
    welcome: '想聊点什么？',
    welcome_hint: '对话保存在此服务器上，直到过期或被您删除。',
    problem_body_too_large: '消息太长。请缩短内容，或分成几条发送。',
    problem_context_length_exceeded: '消息超出了模型的上下文长度。',
    problem_database_full: '磁盘已满。',
    problem_database_read_only: '数据库目前只读。',
    problem_database_refused: '数据库拒绝了这项操作。',
    problem_database_unavailable: '数据库暂时不可用。',
    problem_empty_reply: '模型没有给出回答。',
    problem_http_error: '服务器返回了错误（HTTP {status}）。',
    problem_idempotency_key_reused: '这条消息与之前发送的不一致。',
    problem_internal_error: '服务器内部出错。',
    problem_invalid_fields: '请求中的某些内容无效。',
    problem_key_expired: '密钥已过期。',
    problem_key_revoked: '密钥已被吊销，无法再登录。',
    problem_missing_scope: '您的密钥没有此权限。',
    problem_not_found: '内容不存在。',
    problem_provider_broke: '模型服务出错。',
    problem_provider_busy: '模型服务繁忙。',
    problem_provider_quota_exceeded: '模型服务的额度已用完。',
    problem_provider_refused: '模型服务拒绝了请求。',
    problem_provider_timeout: '模型服务未及时响应。',
    problem_quota_used_up: '配额已用完：请删除一些对话，或等待其过期。',
    problem_rate_limited: '已达到使用限额。',
    problem_request_timeout: '请求超时。',
    problem_sensitive_content: '消息含有敏感信息，未发送。',
    problem_server_stopping: '服务器正在重新启动。',
    problem_turn_running: '这个对话正在生成回复。',
    problem_unreachable: '无法连接服务器，请检查网络。',
  },
};

const units = [['day', 86_400], ['hour', 3600], ['minute', 60]];
let language = browser.read('language', null) ?? (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en');

/** Return the language in use: "en" or "zh". */
export const currentLanguage = () => language;

/** Whether there is a text of this name in the language in use. */
export const hasText = (name) => name in texts[language];

/** Return a text with its `{names}` filled in. */
export function t(name, values = {}) {
  return texts[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

/** Give a node a text that follows the language. */
export function say(node, name) {
  node.dataset.text = name;
  node.textContent = t(name);
  return node;
}

/** Give a node an accessible name and a tooltip that follow the language. */
export function label(node, name) {
  node.dataset.label = name;
  node.title = t(name);
  node.setAttribute('aria-label', t(name));
  return node;
}

/** Use the other language from now on. */
export function switchLanguage() {
  useLanguage(language === 'en' ? 'zh' : 'en');
  browser.write('language', language);
}

function useLanguage(chosen) {
  if (chosen === language || !(chosen in texts)) return;
  language = chosen;
  translatePage();
  dispatchEvent(new Event('language'));
}

/** Put every text of the page into the language in use. */
export function translatePage() {
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  for (const node of document.querySelectorAll('[data-text]')) say(node, node.dataset.text);
  for (const node of document.querySelectorAll('[data-label]')) label(node, node.dataset.label);
  for (const node of document.querySelectorAll('[data-placeholder]')) node.placeholder = t(node.dataset.placeholder);
}

/** Return how far ahead a time is, in words: "in 5m", "in 3h". */
export function until(seconds) {
  const words = new Intl.RelativeTimeFormat(language, { style: 'narrow' });
  const [unit, length] = units.find(([, length]) => seconds >= 1.5 * length) ?? units.at(-1);
  return words.format(Math.round(seconds / length), unit);
}

/** Return how long something takes, in words and exactly: "24 hours", "36 hours", "30 days". */
export function lasting(seconds) {
  const [unit, length] = units.find(([, length]) => seconds >= 1.5 * length && seconds % length === 0) ?? ['second', 1];
  return new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'long' }).format(seconds / length);
}

/** Return a moment in words, short: "5 min. ago", "3 Nov". */
export function ago(iso) {
  const seconds = (Date.parse(iso) - Date.now()) / 1000;
  const relative = new Intl.RelativeTimeFormat(language, { numeric: 'auto', style: 'narrow' });
  if (seconds > -60) return relative.format(0, 'second');
  if (seconds > -3600) return relative.format(Math.round(seconds / 60), 'minute');
  if (seconds > -86_400) return relative.format(Math.round(seconds / 3600), 'hour');
  return new Intl.DateTimeFormat(language, { month: 'short', day: 'numeric' }).format(Date.parse(iso));
}

/** Return a moment in full, in the reader's own time zone. */
export const moment = (iso) =>
  new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'short' }).format(Date.parse(iso));

// Another tab may have switched.
addEventListener('storage', () => useLanguage(browser.read('language', language)));
