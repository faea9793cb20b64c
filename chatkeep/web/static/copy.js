/** Copying to the clipboard, on plain http as well. */

import { byId, icon } from './dom.js';
import { label, t } from './i18n.js';

const shownFor = 2000;

/** Copy text, and show on the button that it is done. */
export async function copyFrom(button, text) {
  const name = button.dataset.label;
  const done = (await write(text)) ? 'copied' : 'copy_failed';
  byId('announcer').textContent = t(done);
  label(button, done).replaceChildren(icon(done === 'copied' ? 'check' : 'close'));
  setTimeout(() => label(button, name === 'copied' ? 'copy' : name).replaceChildren(icon('copy')), shownFor);
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // There is no clipboard on plain http, or it is forbidden.
    return writeTheOldWay(text);
  }
}

function writeTheOldWay(text) {
  const focused = document.activeElement;
  const box = document.createElement('textarea');
  box.className = 'unseen';
  box.value = text;
  // A dialog keeps the focus from all that is outside of it.
  (document.querySelector('dialog[open]') ?? document.body).append(box);
  box.select();
  const done = document.execCommand('copy');
  box.remove();
  focused?.focus();
  return done;
}
