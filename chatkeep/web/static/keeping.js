/** Explains, where the time left of a conversation first shows, what it means and how a conversation is kept. */

import { byId } from './dom.js';
import { lasting, t } from './i18n.js';
import { browser } from './storage.js';

const hint = byId('keep-hint');
let known = browser.read('expiry-explained', false);
let explained = null;

/** Have `keep(id)` called where the reader decides to keep the conversation. */
export function listenToKeeping(keep) {
  byId('keep').addEventListener('click', () => (keep(explained.id), close()));
  byId('keep-dismiss').addEventListener('click', close);
}

/** Explain the time left of the open conversation: once in this browser, until the reader closes it. */
export function explainExpiry(conversation) {
  explained = conversation;
  hint.hidden = known || !conversation?.expires_at;
  if (!hint.hidden) byId('keep-why').textContent = t('expiry_hint', { time: lasting(conversation.ttl) });
}

function close() {
  known = true;
  browser.write('expiry-explained', true);
  hint.hidden = true;
  byId('message').focus();
}
