/** Drafts and the outbox, by conversation. */

import { newKey } from './api.js';
import { browser, tab } from './storage.js';

const kept = 50;
const nameOf = (conversationId) => conversationId ?? 'new';

/** Return the draft of a conversation; null stands for a new one. */
export const readDraft = (conversationId) => browser.read('drafts', {})[nameOf(conversationId)] ?? '';

/** Store a draft. Empty text removes it. */
export function keepDraft(conversationId, text) {
  const drafts = browser.read('drafts', {});
  delete drafts[nameOf(conversationId)];
  const newest = Object.entries(drafts).slice(1 - kept);
  if (text) newest.push([nameOf(conversationId), text]);
  browser.write('drafts', newest.length ? Object.fromEntries(newest) : null);
}

/** Remove all drafts and unsent messages. */
export function forgetWriting() {
  browser.write('drafts', null);
  tab.write('outbox', null);
}

/** Return `{text, key, after}` of the message being sent in a conversation, or null. */
export const readOutbox = (conversationId) => tab.read('outbox', {})[nameOf(conversationId)] ?? null;

/**
 * Store a message that is about to be sent after the message `after`. Return its Idempotency-Key, which stays the same
 * if the message was sent before without an answer, so that a retry cannot create a second turn.
 */
export function fillOutbox(conversationId, text, after) {
  const before = readOutbox(conversationId);
  const key = before?.text === text ? before.key : newKey();
  putOutbox(conversationId, { text, key, after });
  return key;
}

/** Remove the message being sent, because it was answered or discarded. */
export const clearOutbox = (conversationId) => putOutbox(conversationId, undefined);

function putOutbox(conversationId, entry) {
  tab.write('outbox', { ...tab.read('outbox', {}), [nameOf(conversationId)]: entry });
}
