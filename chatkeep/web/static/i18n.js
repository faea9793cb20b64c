/** The page's texts: English here, Chinese in the catalogue. The browser chooses; people can switch, which is kept. */

import { browser } from './storage.js';

/** Mark a message for the catalogue. */
export const _ = (message) => message;

const texts = {
  actions: _('Actions'),
  actions_of: _('Actions for “{title}”'),
  ai_generated: _('AI generated'),
  cached: _('From the cache'),
  cancel: _('Cancel'),
  clear_search: _('Clear the search'),
  close: _('Close'),
  copied: _('Copied'),
  copy: _('Copy'),
  copy_failed: _('The browser did not allow copying'),
  copy_link: _('Copy the link'),
  code: _('Code'),
  conversations: _('Conversations'),
  csv: _('CSV'),
  delete: _('Delete'),
  deleted_named: _('“{title}” is deleted.'),
  demo_key: _('Set it in the environment or in the file .env, then restart the server:'),
  demo_title: _('The offline demo model is answering.'),
  demo_why: _('To use a real model, give the server an API key.'),
  discard: _('Discard'),
  earlier: _('Earlier messages'),
  edit: _('Edit'),
  edit_message: _('Edit the message'),
  ended_content_filter: _('Cut off by a content filter'),
  ended_length: _('Cut off: the reply reached its length limit'),
  ended_refusal: _('The model declined to answer'),
  ended_tool_calls: _('Cut off: the model called a tool, but this server offers none'),
  empty_list: _('Your conversations will appear here.'),
  expires: _('expires {in}'),
  expiry_hint: _('A conversation is deleted {time} after its last message, unless you keep it.'),
  expires_soon: _('expires within a minute'),
  export: _('Export'),
  export_all: _('Export everything'),
  found: _('Found: {count}'),
  gone: _('This conversation no longer exists: it was deleted or has expired.'),
  group_last_week: _('Last 7 days'),
  group_older: _('Older'),
  group_pinned: _('Kept'),
  group_today: _('Today'),
  group_yesterday: _('Yesterday'),
  hide_list: _('Hide conversations'),
  json: _('JSON'),
  key: _('Key'),
  key_missing: _('Enter a key.'),
  key_wrong: _('This key is invalid. Keys begin with ck_; check that yours is complete.'),
  language: _('中文'),
  language_hint: _('Switch to Chinese (中文)'),
  line_break: _('New line'),
  link: _('Link'),
  list_failed: _('The conversations could not be loaded.'),
  loading: _('Loading…'),
  markdown: _('Markdown'),
  menu: _('Show conversations'),
  message: _('Message'),
  messages: _('Messages'),
  more: _('Show more'),
  new_conversation: _('New conversation'),
  new_title: _('New title'),
  next: _('Next version'),
  not_sent: _('Not sent: “{text}”'),
  nothing_found: _('Nothing found.'),
  open_failed: _('This conversation could not be opened.'),
  pin: _('Keep'),
  previous: _('Previous version'),
  print: _('Print'),
  print_cut: _('Not all messages are printed here. To print all of them, press Ctrl+P (⌘P on a Mac) on the page itself.'),
  print_loading: _('Loading all messages to print them…'),
  reasoning: _('Reasoning'),
  reconnecting: _('The connection was lost. Reconnecting…'),
  regenerate: _('Regenerate'),
  rename: _('Rename'),
  reply_begins: _('The reply begins.'),
  reply_ended: _('The reply is complete.'),
  role_assistant: _('Reply'),
  role_user: _('You'),
  search: _('Search'),
  search_hint: _('Search conversations'),
  send: _('Send'),
  settings: _('Settings'),
  share: _('Share…'),
  share_anew: _('Create a new link'),
  share_anew_hint: _('A link is shown only when it is created. A new link shows the current messages and revokes the old link.'),
  share_gone: _('This link is invalid: it was revoked, or its conversation was deleted.'),
  share_hint: _('Anyone with the link can read the current messages without signing in. Later messages are not shown. The link is revoked when the conversation is deleted or you stop sharing.'),
  share_make: _('Create a link'),
  share_once: _('Copy the link now: it is not shown again.'),
  share_stop: _('Stop sharing'),
  share_title: _('Share by link'),
  shared_note: _('This is a shared conversation, read-only. Replies are AI generated.'),
  shared_since: _('Shared since {time}.'),
  shared_title: _('Shared conversation'),
  shortcuts: _('Keyboard shortcuts'),
  sign_in: _('Sign in'),
  sign_in_admin: _('This page requires a key with the scope admin.'),
  sign_in_again: _('You are signed out: your key is no longer valid. Sign in to continue where you were.'),
  sign_in_denied: _('The sign-in was refused.'),
  sign_in_failed: _('The sign-in did not succeed. Try again.'),
  sign_in_hint: _('This server requires a key. Its operator creates one with “chatkeep keys create”.'),
  sign_in_not_kept: _('The browser did not keep the sign-in. Allow cookies for this site.'),
  sign_in_unavailable: _('Sign-in is unavailable. Try again later.'),
  sign_in_with: _('Sign in with {name}'),
  sign_out: _('Sign out'),
  signed_in_as: _('Signed in as {name}'),
  status_failed: _('No reply'),
  status_interrupted: _('Interrupted: the server stopped while it was replying'),
  status_stopped: _('Stopped'),
  status_truncated: _('Cut off before its end'),
  stop: _('Stop'),
  stopping: _('Stopping…'),
  theme: _('Theme'),
  theme_dark: _('Dark'),
  theme_light: _('Light'),
  theme_system: _('System'),
  thinking: _('Thinking…'),
  thought_for: _('Thought for'),
  to_end: _('Scroll to the end'),
  try_again: _('Try again'),
  turn_pages: _('Scroll the messages'),
  undo: _('Undo'),
  undo_deletion: _('Undo a deletion'),
  unpin: _('Stop keeping'),
  untitled: _('New conversation'),
  wait: _('Try again in {seconds} s.'),
  welcome: _('What is on your mind?'),
  welcome_hint: _('Every conversation is kept on this server until it expires or you delete it.'),
  problem_body_too_large: _('The message is too long. Shorten it, or send it in several parts.'),
  problem_context_length_exceeded: _('The message is too long for the model.'),
  problem_database_full: _('The disk is full.'),
  problem_database_read_only: _('The database is read-only.'),
  problem_database_refused: _('The database refused this.'),
  problem_database_unavailable: _('The database is not available.'),
  problem_empty_reply: _('The model gave no answer.'),
  problem_http_error: _('The server answered with an error (HTTP {status}).'),
  problem_internal_error: _('Internal server error.'),
  problem_key_expired: _('This key has expired.'),
  problem_key_revoked: _('This key was revoked.'),
  problem_missing_scope: _('Your key lacks the required scope.'),
  problem_provider_broke: _('The model’s provider failed.'),
  problem_provider_busy: _('The model’s provider is busy.'),
  problem_provider_quota_exceeded: _('The quota at the model’s provider is used up.'),
  problem_provider_refused: _('The model’s provider refused the request.'),
  problem_provider_timeout: _('The model’s provider did not answer in time.'),
  problem_sensitive_content: _('The message contains sensitive information and was not sent.'),
  problem_turn_running: _('A reply is being generated in this conversation.'),
  problem_unreachable: _('The server cannot be reached. Check your connection.'),
};

const units = [['day', 86_400], ['hour', 3600], ['minute', 60]];
let language = browser.read('language', null) ?? (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en');

let chinese = {}; // a page in English does not load it
await loadTexts(language);

async function loadTexts(chosen) {
  if (chosen === 'zh') chinese = (await import('./zh.js')).default;
}

/** Return the language in use: "en" or "zh". */
export const currentLanguage = () => language;

/** Whether there is a text of this name. */
export const hasText = (name) => name in texts;

/** Return a text with its `{names}` filled in. */
export const t = (name, values = {}) => translated(texts[name], values);

/** Return a message in the language in use, with its `{names}` filled in. Another page brings its own table. */
export function translated(message, values, table = chinese) {
  const words = language === 'zh' ? table[message] : message;
  return words.replace(/\{(\w+)\}/g, (_name, key) => values[key]);
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
export async function switchLanguage() {
  await useLanguage(language === 'en' ? 'zh' : 'en');
  browser.write('language', language);
}

async function useLanguage(chosen) {
  if (chosen === language || !['en', 'zh'].includes(chosen)) return;
  await loadTexts(chosen);
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
