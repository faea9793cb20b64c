/** The search box of the list. */

import { byId } from './dom.js';
import { isComposing } from './keys.js';

const pause = 250;
const box = byId('search');

/** Call `search(query)` a moment after input, and `leave()` when Escape leaves the box. */
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
    // Escape must not close the drawer or stop a reply.
    event.stopPropagation();
    event.preventDefault();
    if (!box.value) return leave();
    clear();
  });
  byId('search-clear').addEventListener('click', clear);
}

/** Focus the box. */
export function focusSearch() {
  box.focus();
  box.select();
}
