/** Copy to the clipboard, also on plain HTTP. */

import { byId, icon } from './dom.js';
import { label, t } from './i18n.js';

const shownFor = 2000;

/** Copy text, and confirm it on the button. */
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
    // The clipboard API is missing on plain HTTP, or denied.
    return writeTheOldWay(text);
  }
}

function writeTheOldWay(text) {
  const focused = document.activeElement;
  const box = document.createElement('textarea');
  box.className = 'unseen';
  box.value = text;
  // A modal dialog keeps focus from elements outside of it.
  (document.querySelector('dialog[open]') ?? document.body).append(box);
  box.select();
  const done = document.execCommand('copy');
  box.remove();
  focused?.focus();
  return done;
}
