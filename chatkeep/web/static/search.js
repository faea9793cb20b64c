/** The box that searches the list of conversations. */

import { byId } from './dom.js';
import { isComposing } from './keys.js';

const pause = 250;
const box = byId('search');

/** Call `search(query)` a moment after the reader has written something; `leave()` where the box is left by Escape. */
export function listenToSearch({ search, leave }) {
  let timer;
  const wait = (milliseconds) => {
    clearTimeout(timer);
    timer = setTimeout(() => search(box.value.trim()), milliseconds);
  };
  const clear = () => {
    box.value = '';
    box.focus();
    wait(0);
  };
  box.addEventListener('input', (event) => event.isComposing || wait(box.value ? pause : 0));
  box.addEventListener('compositionend', () => wait(pause));
  box.addEventListener('keydown', (event) => {
    if (isComposing(event) || event.key !== 'Escape') return;
    // It neither closes the drawer nor stops a reply.
    event.stopPropagation();
    event.preventDefault();
    if (!box.value) return leave();
    clear();
  });
  byId('search-clear').addEventListener('click', clear);
}

/** Put the cursor into the box. */
export function focusSearch() {
  box.focus();
  box.select();
}
