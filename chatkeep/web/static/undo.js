/** Deleting with a way back: a conversation leaves the list at once, and the server a little later. */

import { deleteConversation } from './api.js';
import { keepDraft, readDraft } from './drafts.js';
import { t } from './i18n.js';
import { explain } from './problems.js';
import { tellTabs } from './tabs.js';
import { showFailedToast, showToast } from './toast.js';

const grace = 6000;
let pending = null;

/** Delete a conversation of the list. Where it is open, a new one opens in its place. */
export function deleteLater(list, { id, title, message_count: count }) {
  deleteNow();
  const wasOpen = list.current === id;
  const hideToast = showToast(t('deleted_named', { title: title || t('untitled') }), ['undo', undo]);
  pending = { list, id, count, wasOpen, hideToast, timer: setTimeout(deleteNow, grace) };
  list.hide(id);
  if (wasOpen) location.hash = '';
}

/** Bring the conversation back that has just been deleted; return whether there was one. */
export function undo() {
  const back = take();
  if (!back) return false;
  back.list.unhide(back.id);
  if (back.wasOpen && !location.hash.slice(1)) location.hash = back.id;
  return true;
}

function take() {
  const taken = pending;
  pending = null;
  clearTimeout(taken?.timer);
  taken?.hideToast();
  return taken;
}

async function deleteNow({ keepalive = false } = {}) {
  const gone = take();
  if (!gone) return;
  const draft = readDraft(gone.id);
  keepDraft(gone.id, '');
  try {
    await deleteConversation(gone.id, keepalive);
    gone.list.forget(gone.id);
    tellTabs();
  } catch (error) {
    if (error.status === 404) return gone.list.forget(gone.id);
    keepDraft(gone.id, draft);
    gone.list.unhide(gone.id);
    const again = () => deleteLater(gone.list, gone.list.find(gone.id));
    // Somebody who reads it again, or wrote more in it, may have changed their mind.
    const isSame = () => gone.list.current !== gone.id && gone.list.find(gone.id)?.message_count === gone.count;
    showFailedToast(error, explain(error), again, { alone: () => isSame() && again() });
  }
}

// Whoever goes to it by the browser's own "back" wants it back.
addEventListener('hashchange', () => pending && location.hash.slice(1) === pending.id && undo());
addEventListener('pagehide', () => deleteNow({ keepalive: true }));
