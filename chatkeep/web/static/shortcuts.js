/** Keyboard shortcuts, and the dialog that lists them. */

import { byId, el } from './dom.js';
import { say } from './i18n.js';
import { isCommand, isComposing, keyNames, keyOf } from './keys.js';

const listed = [
  ['new_conversation', 'Ctrl', 'Shift', 'O'],
  ['search', 'Ctrl', 'K'],
  ['shortcuts', 'Ctrl', '/'],
  ['send', 'Enter'],
  ['line_break', 'Shift', 'Enter'],
  ['stop', 'Esc'],
  ['turn_pages', 'PgUp', 'PgDn'],
  ['undo_deletion', 'Ctrl', 'Z'],
];
const dialog = byId('help');

/** Listen to shortcuts. `acts` has the actions "new", "search" and "undo", which returns whether it did anything. */
export function listenToShortcuts(acts) {
  byId('help-keys').replaceChildren(...listed.map(([name, ...keys]) => row(name, keys)));
  byId('help-close').addEventListener('click', () => dialog.close());
  dialog.addEventListener('click', ({ target }) => target === dialog && dialog.close());
  addEventListener('keydown', (event) => {
    if (isComposing(event) || event.repeat || !isCommand(event)) return;
    if (obey(event, acts)) event.preventDefault();
  });
}

/** Toggle the dialog. */
export function toggleHelp() {
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

/** Return the names of a shortcut's keys on this system, such as "Ctrl K". */
export const keysOf = (name) => keyNames(listed.find(([listedName]) => listedName === name).slice(1)).join(' ');

function obey(event, acts) {
  const key = keyOf(event);
  if (document.querySelector('dialog[open]:not(#help)')) return false;
  if (key === '/' || key === '?') return toggleHelp(), true;
  if (document.querySelector('dialog[open]')) return false;
  if (key === 'o' && event.shiftKey) return acts.new(), true;
  if (key === 'k' && !event.shiftKey) return acts.search(), true;
  // In a field with text, the keys undo input.
  return key === 'z' && !event.shiftKey && !event.target.value && acts.undo();
}

function row(name, keys) {
  const names = keyNames(keys).flatMap((key) => [' ', el('kbd', '', key)]).slice(1);
  return el('div', '', say(el('dt'), name), el('dd', '', ...names));
}
