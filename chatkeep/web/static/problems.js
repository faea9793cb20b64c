/** Human-readable errors. */

import { Problem } from './api.js';
import { currentLanguage, hasText, t } from './i18n.js';

/** Return a sentence or two about a `Problem`. Rethrows other errors, which are bugs of the page. */
export function explain(problem) {
  if (!(problem instanceof Problem)) throw problem;
  if (isTooLong(problem)) return t('problem_body_too_large');
  const words = [titleOf(problem), ...detailsOf(problem)];
  if (problem.retryAfter !== null) words.push(t('wait', { seconds: problem.retryAfter }));
  return words.join(' ');
}

/** Return words about a stored reply's error, unless its status says the same. */
export function explainStored({ error, error_detail: detail }) {
  const name = `problem_${error}`;
  const words = hasText(name) ? [t(name)] : [];
  if (detail && error !== 'reply_interrupted') words.push(sentence(detail));
  return words.join(' ');
}

// Only the message can be too long or invalid in requests of the page.
const isTooLong = ({ code, errors }) =>
  code === 'body_too_large' || (code === 'invalid_fields' && errors.some(({ field }) => field === 'message'));

function titleOf(problem) {
  const name = `problem_${problem.code}`;
  if (hasText(name)) return t(name, problem);
  return problem.title ? sentence(problem.title) : t('problem_http_error', problem);
}

function detailsOf({ title, detail, errors }) {
  const unsaid = errors.filter(({ message }) => !detail.includes(message));
  const words = unsaid.map(({ field, message }) => (field ? `${field}: ${message}` : message));
  if (detail && detail !== title) words.unshift(detail);
  return words.map(sentence);
}

const sentence = (text) => (/[.!?…。！？]$/.test(text) ? text : `${text}${currentLanguage() === 'zh' ? '。' : '.'}`);
