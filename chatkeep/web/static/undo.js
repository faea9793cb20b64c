/**
 * Delete with undo: a conversation leaves the list at once, and the server a little later. If the page is closed
 * meanwhile, the deletion is sent at once. If that fails, it is sent when the page is opened again.
 */

import { conversationAddress, deleteConversation, openConversation } from './api.js';
import { keepDraft, readDraft } from './drafts.js';
import { t } from './i18n.js';
import { explain } from './problems.js';
import { browser } from './storage.js';
import { tellTabs } from './tabs.js';
import { showFailedToast, showToast } from './toast.js';

const grace = 6000;
let pending = null;

/** Delete a conversation. If it is open, open a new one. */
export function deleteLater(list, { id, title, message_count: count }) {
  settleDeletion();
  const item = { id, title, message_count: count };
  const wasOpen = list.current === id;
  const hideToast = showToast(t('deleted_named', { title: title || t('untitled') }), ['undo', undo]);
  const timer = setTimeout(settleDeletion, grace);
  pending = { list, item, wasOpen, hideToast, timer, address: conversationAddress(id) };
  note(id, { ...item, due: Date.now() + grace });
  list.hide(id);
  if (wasOpen) location.hash = '';
}

/** Undo the last deletion. Return whether there was one. */
export function undo() {
  const back = take();
  if (!back) return false;
  const { list, item, wasOpen } = back;
  bringBack(list, item.id);
  list.focus(item.id);
  if (wasOpen && !location.hash.slice(1)) location.hash = item.id;
  return true;
}

/** Send the pending deletion now. */
export async function settleDeletion() {
  const gone = take();
  if (gone) await remove(gone.list, gone.item);
}

/** Send deletions that were pending when a page was closed. Another tab can undo them until they are due. */
export function finishDeletions(list) {
  for (const { due, ...item } of Object.values(noted())) {
    list.hide(item.id);
    setTimeout(() => finish(list, item), Math.min(Math.max(due - Date.now(), 0), grace));
  }
}

async function finish(list, item) {
  if (!(item.id in noted())) return bringBack(list, item.id);
  try {
    // It may have new messages.
    const { message_count: count } = await openConversation(item.id, undefined, undefined, 1);
    if (count === item.message_count) await remove(list, item);
    else bringBack(list, item.id);
  } catch (error) {
    complain(list, item, error);
  }
}

function take() {
  const taken = pending;
  pending = null;
  clearTimeout(taken?.timer);
  taken?.hideToast();
  return taken;
}

async function remove(list, item) {
  const draft = readDraft(item.id);
  keepDraft(item.id, '');
  try {
    await deleteConversation(item.id);
    forget(list, item.id);
    tellTabs();
  } catch (error) {
    if (error.status !== 404) keepDraft(item.id, draft);
    complain(list, item, error);
  }
}

function complain(list, item, error) {
  const { id, message_count: count } = item;
  const words = explain(error);
  if (error.status === 404) return forget(list, id);
  bringBack(list, id);
  const again = () => deleteLater(list, list.find(id) ?? item);
  // A user who opens it again or sends a message may have changed their mind.
  const isSame = () => list.current !== id && list.find(id)?.message_count === count;
  showFailedToast(error, words, again, { alone: () => isSame() && again() });
}

function forget(list, id) {
  note(id, undefined);
  if (list.current === id) list.gone(id);
  else list.forget(id);
}

function bringBack(list, id) {
  note(id, undefined);
  list.unhide(id);
}

const noted = () => browser.read('deletions', {});

const note = (id, deletion) => browser.write('deletions', { ...noted(), [id]: deletion });

// When a tab is closed, Firefox ends scripts at the first return, so the request comes first.
function sendPending() {
  if (pending) fetch(pending.address, { method: 'DELETE', keepalive: true }).catch(() => {});
  take();
}

// A user who goes back to it in the browser's history wants it back.
addEventListener('hashchange', () => pending && location.hash.slice(1) === pending.item.id && undo());
addEventListener('pagehide', sendPending);
