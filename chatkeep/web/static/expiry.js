/** The expiry of conversations. */

import { t, until } from './i18n.js';

const minute = 60_000;
const longest = 2 ** 31 - 1;

/** Return "expires in 3h", or nothing for a conversation that does not expire. */
export function expiryWords({ expires_at: expiresAt }) {
  if (!expiresAt) return '';
  const left = Date.parse(expiresAt) - Date.now();
  return left < minute ? t('expires_soon') : t('expires', { in: until(left / 1000) });
}

/** Whether a conversation has expired by this clock. */
export const isOver = ({ expires_at: expiresAt }) => Boolean(expiresAt) && Date.parse(expiresAt) <= Date.now();

/** Call `look` every minute. */
export const everyMinute = (look) => setInterval(look, minute);

let timer;

/** Call `over` when the open conversation expires. Replaces an earlier watch. */
export function watchExpiry(conversation, over) {
  clearTimeout(timer);
  if (!conversation?.expires_at) return;
  const left = Date.parse(conversation.expires_at) - Date.now();
  // If this clock is ahead of the server's, don't ask it continuously.
  timer = setTimeout(over, left > 0 ? Math.min(left + 500, longest) : minute);
}
