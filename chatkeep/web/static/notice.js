/** What went wrong, in words, above the box where messages are written. */

import { byId, button, el } from './dom.js';
import { say } from './i18n.js';

const root = byId('notice');

/** Show words and buttons: pairs of a text's name and what the button does. */
export function showNotice(words, ...actions) {
  const buttons = actions.map(([name, act]) => say(button('link', () => (hideNotice(), act())), name));
  root.replaceChildren(el('p', '', words), el('div', 'actions', ...buttons));
  root.hidden = false;
}

/** Take the notice away. */
export function hideNotice() {
  root.hidden = true;
  root.replaceChildren();
}
