/** Text that is not sent yet, by conversation, and messages that are on their way. */

import { newKey } from './api.js';
import { browser, tab } from './storage.js';

const kept = 50;
const nameOf = (conversationId) => conversationId ?? 'new';

/** Return the draft of a conversation; null stands for the one that does not exist yet. */
export const readDraft = (conversationId) => browser.read('drafts', {})[nameOf(conversationId)] ?? '';

/** Keep a draft; empty text forgets it. */
export function keepDraft(conversationId, text) {
  const drafts = browser.read('drafts', {});
  delete drafts[nameOf(conversationId)];
  const newest = Object.entries(drafts).slice(1 - kept);
  if (text) newest.push([nameOf(conversationId), text]);
  browser.write('drafts', newest.length ? Object.fromEntries(newest) : null);
}

/** Forget everything that was written and is not sent. */
export function forgetWriting() {
  browser.write('drafts', null);
  tab.write('outbox', null);
}

/** Return `{text, key, after}` of the message on its way in a conversation, or null. */
export const readOutbox = (conversationId) => tab.read('outbox', {})[nameOf(conversationId)] ?? null;

/**
 * Note a message that is about to be sent after the message `after`, and return its Idempotency-Key. The key stays the
 * same where the message was sent before and no answer came, so that a retry cannot make a second turn.
 */
export function fillOutbox(conversationId, text, after) {
  const before = readOutbox(conversationId);
  const key = before?.text === text ? before.key : newKey();
  putOutbox(conversationId, { text, key, after });
  return key;
}

/** The message on its way was answered, or is given up. */
export const clearOutbox = (conversationId) => putOutbox(conversationId, undefined);

function putOutbox(conversationId, entry) {
  tab.write('outbox', { ...tab.read('outbox', {}), [nameOf(conversationId)]: entry });
}
