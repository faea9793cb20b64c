/** The operator's page in two languages; the language is the one that the chat page uses. */

import { currentLanguage } from './i18n.js';

const texts = {
  en: {
    all_time: '{count} in all',
    cache: 'Cache hits',
    commits: 'Storing a turn',
    conversations: 'Conversations',
    errors: 'Provider errors',
    expired: 'Expired',
    first_token: 'First token',
    generating: 'In progress',
    job_cancelled: 'cancelled',
    job_completed: 'completed',
    job_created: 'Created',
    job_failed: 'failed',
    job_format: 'Format',
    job_progress: 'Progress',
    job_queued: 'waiting',
    job_running: 'running',
    job_size: 'Size',
    job_status: 'Status',
    jobs: 'Exports',
    language: '中文',
    language_hint: 'Switch to Chinese (中文)',
    'line_0.5': 'median',
    'line_0.95': '95 %',
    line_completed: 'completed',
    line_failed: 'failed',
    line_input: 'input',
    line_interrupted: 'interrupted',
    line_output: 'output',
    line_provider_broke: 'broke',
    line_provider_busy: 'busy',
    line_provider_refused: 'refused',
    line_provider_timeout: 'timed out',
    line_share: 'share',
    line_stopped: 'stopped',
    line_truncated: 'truncated',
    no_jobs: 'No exports.',
    not_refreshed: 'These numbers are not fresh.',
    nothing: 'Nothing in this time.',
    per_step_60: 'per minute',
    per_step_600: 'per 10 minutes',
    per_step_3600: 'per hour',
    per_step_86400: 'per day',
    range: 'Time shown',
    range_1h: '1 h',
    range_24h: '24 h',
    range_7d: '7 d',
    range_30d: '30 d',
    scope_needed: 'This page needs a key with the scope admin, which yours lacks. Make one on the server, then sign in with it:',
    sign_out: 'Sign out',
    storage: 'Database',
    table: 'As a table',
    time: 'Time',
    title: 'Operation',
    to_chat: 'To the conversations',
    tokens: 'Tokens',
    tokens_detail: '{input} in, {output} out',
    turn_time: 'Whole reply',
    turns: 'Turns',
    updated: 'As of {time}; refreshed every 10 seconds.',
    workers: 'Server processes',
    workers_detail: 'processes: {count}',
  },
  zh: {
    all_time: '累计 {count}',
    cache: '缓存命中率',
    commits: '保存一轮对话',
    conversations: '对话',
    errors: '模型服务错误',
    expired: '已过期对话',
    first_token: '首个词元',
    generating: '正在生成',
    job_cancelled: '已取消',
    job_completed: '已完成',
    job_created: '创建时间',
    job_failed: '失败',
    job_format: '格式',
    job_progress: '进度',
    job_queued: '等待中',
    job_running: '进行中',
    job_size: '大小',
    job_status: '状态',
    jobs: '导出任务',
    language: 'English',
    language_hint: '切换到英文（English）',
    'line_0.5': '中位数',
    'line_0.95': '95 %',
    line_completed: '完成',
    line_failed: '失败',
    line_input: '输入',
    line_interrupted: '中断',
    line_output: '输出',
    line_provider_broke: '故障',
    line_provider_busy: '繁忙',
    line_provider_refused: '拒绝',
    line_provider_timeout: '超时',
    line_share: '比例',
    line_stopped: '已停止',
    line_truncated: '不完整',
    no_jobs: '没有导出任务。',
    not_refreshed: '数据未能更新。',
    nothing: '这段时间内没有数据。',
    per_step_60: '每分钟',
    per_step_600: '每 10 分钟',
    per_step_3600: '每小时',
    per_step_86400: '每天',
    range: '时间范围',
    range_1h: '1 小时',
    range_24h: '24 小时',
    range_7d: '7 天',
    range_30d: '30 天',
    scope_needed: '此页面需要具有 admin 权限的密钥，您的密钥没有此权限。请在服务器上创建一个，然后用它登录：',
    sign_out: '退出登录',
    storage: '数据库',
    table: '以表格显示',
    time: '时间',
    title: '运行状况',
    to_chat: '返回对话',
    tokens: '词元',
    tokens_detail: '输入 {input}，输出 {output}',
    turn_time: '完整回复',
    turns: '对话轮次',
    updated: '截至 {time}，每 10 秒更新一次。',
    workers: '服务进程',
    workers_detail: '{count} 个进程',
  },
};

/** Return a text with its `{names}` filled in. */
export const t = (name, values = {}) =>
  texts[currentLanguage()][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);

/** Put every text that stands in the page into the language in use. */
export function translate() {
  document.documentElement.lang = currentLanguage() === 'zh' ? 'zh-CN' : 'en';
  document.title = `${t('title')} – chatkeep`;
  for (const node of document.querySelectorAll('[data-say]')) node.textContent = t(node.dataset.say);
  for (const node of document.querySelectorAll('[data-hint]')) hint(node);
}

/** Return a count as people write it; a large one is shortened. */
export const count = (value) =>
  number(value, value < 10_000 ? { maximumFractionDigits: 1 } : { notation: 'compact', maximumSignificantDigits: 3 });

/** Return a share of 1 in per cent. */
export const share = (value) => number(value, { style: 'percent', maximumFractionDigits: 1 });

/** Return seconds in the unit that fits. */
export const seconds = (value) =>
  value < 1 ? number(value * 1000, unit('millisecond', 3)) : number(value, unit('second', 3));

/** Return bytes in the unit that fits. */
export function bytes(value) {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];
  const power = Math.min(Math.floor(Math.log(Math.max(value, 1)) / Math.log(1000)), units.length - 1);
  return number(value / 1000 ** power, unit(units[power], 3));
}

/** Return a time, to the second where it is one of today's, else with its day. */
export function clock(at, step = 0) {
  const day = { month: 'short', day: 'numeric' };
  const time = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
  const parts = { 0: { ...time, second: '2-digit' }, 60: time, 600: time, 3600: { ...day, ...time }, 86400: day };
  return new Intl.DateTimeFormat(currentLanguage(), parts[step]).format(at);
}

const number = (value, options) => new Intl.NumberFormat(currentLanguage(), options).format(value);

function unit(name, digits) {
  return { style: 'unit', unit: name, unitDisplay: displays[name] ?? 'short', maximumSignificantDigits: digits };
}

const displays = { byte: 'long', millisecond: 'narrow', second: 'narrow' };

function hint(node) {
  node.title = t(node.dataset.hint);
  if (node.tagName !== 'A') node.setAttribute('aria-label', t(node.dataset.hint));
}
