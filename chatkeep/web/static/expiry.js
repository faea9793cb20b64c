/** How long conversations are still kept. */

import { t, until } from './i18n.js';

const minute = 60_000;
const longest = 2 ** 31 - 1;

/** Return "expires in 3h", or nothing for a conversation that is kept. */
export function expiryWords({ expires_at: expiresAt }) {
  if (!expiresAt) return '';
  const left = Date.parse(expiresAt) - Date.now();
  return left < minute ? t('expires_soon') : t('expires', { in: until(left / 1000) });
}

/** Whether a conversation's time is over, as far as this clock knows. */
export const isOver = ({ expires_at: expiresAt }) => Boolean(expiresAt) && Date.parse(expiresAt) <= Date.now();

/** Call `look` every minute. */
export const everyMinute = (look) => setInterval(look, minute);

let timer;

/** Call `over` when the time of the open conversation is over; it replaces the one that was watched before. */
export function watchExpiry(conversation, over) {
  clearTimeout(timer);
  if (!conversation?.expires_at) return;
  const left = Date.parse(conversation.expires_at) - Date.now();
  // A clock that is ahead of the server's must not ask it all the time.
  timer = setTimeout(over, left > 0 ? Math.min(left + 500, longest) : minute);
}
