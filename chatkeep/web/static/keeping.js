/** Explains a conversation's expiry, and how to keep it, when an expiry is first shown. */

import { byId } from './dom.js';
import { lasting, t } from './i18n.js';
import { browser } from './storage.js';

const hint = byId('keep-hint');
let known = browser.read('expiry-explained', false);
let explained = null;

/** Call `keep(id)` when the user decides to keep the conversation. */
export function listenToKeeping(keep) {
  byId('keep').addEventListener('click', () => (keep(explained.id), close()));
  byId('keep-dismiss').addEventListener('click', close);
}

/** Explain the expiry of the open conversation, once per browser, until the user closes it. */
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
