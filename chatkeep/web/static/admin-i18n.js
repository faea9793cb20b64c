/** The admin page's texts in two languages. It uses the chat page's language. */

import chinese from './admin-zh.js';
import { _, currentLanguage, translated } from './i18n.js';

const texts = {
  all_time: _('{count} in all'),
  cache: _('Cache hits'),
  commits: _('Storing a turn'),
  conversations: _('Conversations'),
  errors: _('Provider errors'),
  expired: _('Expired'),
  first_token: _('First token'),
  generating: _('In progress'),
  job_cancelled: _('cancelled'),
  job_completed: _('completed'),
  job_created: _('Created'),
  job_failed: _('failed'),
  job_format: _('Format'),
  job_progress: _('Progress'),
  job_queued: _('waiting'),
  job_running: _('running'),
  job_size: _('Size'),
  job_status: _('Status'),
  jobs: _('Exports'),
  language: _('中文'),
  language_hint: _('Switch to Chinese (中文)'),
  'line_0.5': _('median'),
  'line_0.95': _('95 %'),
  line_completed: _('completed'),
  line_failed: _('failed'),
  line_input: _('input'),
  line_interrupted: _('interrupted'),
  line_output: _('output'),
  line_provider_broke: _('failed'),
  line_provider_busy: _('busy'),
  line_provider_refused: _('refused'),
  line_provider_timeout: _('timed out'),
  line_share: _('share'),
  line_stopped: _('stopped'),
  line_truncated: _('truncated'),
  no_jobs: _('No exports.'),
  not_refreshed: _('These numbers are out of date.'),
  nothing: _('No data in this period.'),
  per_step_60: _('per minute'),
  per_step_600: _('per 10 minutes'),
  per_step_3600: _('per hour'),
  per_step_86400: _('per day'),
  range: _('Period'),
  range_1h: _('1 h'),
  range_24h: _('24 h'),
  range_7d: _('7 d'),
  range_30d: _('30 d'),
  scope_needed: _('This page requires a key with the scope admin. Create one on the server, then sign in with it:'),
  sign_out: _('Sign out'),
  storage: _('Database'),
  table: _('Show as a table'),
  time: _('Time'),
  title: _('Operations'),
  to_chat: _('Back to the conversations'),
  tokens: _('Tokens'),
  tokens_detail: _('{input} in, {output} out'),
  turn_time: _('Full reply'),
  turns: _('Turns'),
  updated: _('As of {time}; refreshed every 10 seconds.'),
  workers: _('Server processes'),
  workers_detail: _('processes: {count}'),
};

/** Return a text with its `{placeholders}` filled in. */
export const t = (name, values = {}) => translated(texts[name], values, chinese);

/** Translate all texts of the page. */
export function translate() {
  document.documentElement.lang = currentLanguage() === 'zh' ? 'zh-CN' : 'en';
  document.title = `${t('title')} – chatkeep`;
  for (const node of document.querySelectorAll('[data-say]')) node.textContent = t(node.dataset.say);
  for (const node of document.querySelectorAll('[data-hint]')) hint(node);
}

/** Format a count, abbreviated if it is large. */
export const count = (value) =>
  number(value, value < 10_000 ? { maximumFractionDigits: 1 } : { notation: 'compact', maximumSignificantDigits: 3 });

/** Format a fraction as a percentage. */
export const share = (value) => number(value, { style: 'percent', maximumFractionDigits: 1 });

/** Format seconds in a suitable unit. */
export const seconds = (value) =>
  value < 1 ? number(value * 1000, unit('millisecond', 3)) : number(value, unit('second', 3));

/** Format bytes in a suitable unit. */
export function bytes(value) {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];
  const power = Math.min(Math.floor(Math.log(Math.max(value, 1)) / Math.log(1000)), units.length - 1);
  return number(value / 1000 ** power, unit(units[power], 3));
}

/** Format a time: to the second if it is today, else with the day. */
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
