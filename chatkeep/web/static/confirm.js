/** Asks before a conversation is deleted. */

import { byId } from './dom.js';
import { t } from './i18n.js';

const dialog = byId('confirm');

byId('confirm-yes').addEventListener('click', () => dialog.close('yes'));
byId('confirm-no').addEventListener('click', () => dialog.close('no'));

/** Resolve to whether the reader wants the conversation of this title deleted. */
export function confirmDelete(title) {
  byId('confirm-words').textContent = t('delete_warning', { title });
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}
