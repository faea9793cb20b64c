/** The dialog that creates, copies and revokes a conversation's share link. */

import { readShare, shareAddress, shareConversation, stopSharing } from './api.js';
import { copyFrom } from './copy.js';
import { button, el, icon } from './dom.js';
import { label, moment, say, t } from './i18n.js';
import { explain } from './problems.js';

/** Show whether a conversation is shared, and let the user change it. */
export function openSharing(id) {
  const dialog = el('dialog', 'share', head(() => dialog.close()), el('div', 'state'));
  dialog.id = 'share';
  dialog.setAttribute('aria-labelledby', 'share-title');
  dialog.addEventListener('click', ({ target }) => target === dialog && dialog.close());
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  show(dialog, id, () => readShare(id));
}

function head(close) {
  const title = say(el('h2'), 'share_title');
  title.id = 'share-title';
  return el('div', 'dialog-head', title, label(button('tool', close, icon('close')), 'close'));
}

/** Run a request, and show the resulting share link. */
async function show(dialog, id, ask) {
  const state = dialog.querySelector('.state');
  state.setAttribute('aria-busy', 'true');
  try {
    state.replaceChildren(...describe(await ask(), (next) => show(dialog, id, next), id));
    state.querySelector('input, .main')?.focus();
  } catch (error) {
    state.replaceChildren(alert(explain(error)), actions(act('try_again', () => show(dialog, id, ask))));
  } finally {
    state.removeAttribute('aria-busy');
  }
}

function describe({ shared, token, created_at: since }, change, id) {
  const make = (name) => act(name, () => change(() => shareConversation(id)), 'main');
  const stop = act('share_stop', () => change(() => stopSharing(id)), 'link danger');
  if (!shared) return [say(el('p', 'hint'), 'share_hint'), actions(make('share_make'))];
  if (token) return [link(shareAddress(token)), say(el('p', 'hint'), 'share_once'), actions(stop)];
  const known = el('p', 'hint', t('shared_since', { time: moment(since) }));
  return [known, say(el('p', 'hint'), 'share_anew_hint'), actions(make('share_anew'), stop)];
}

function link(address) {
  const box = label(el('input'), 'link');
  Object.assign(box, { value: address, readOnly: true, dir: 'ltr' });
  box.addEventListener('focus', () => box.select());
  const copy = label(button('tool copy', () => copyFrom(copy, address), icon('copy')), 'copy_link');
  return el('div', 'address', box, copy);
}

function alert(words) {
  const node = el('p', 'error', words);
  node.setAttribute('role', 'alert');
  return node;
}

const actions = (...buttons) => el('div', 'actions', ...buttons);

const act = (name, acting, className = 'link') => say(button(className, acting), name);
