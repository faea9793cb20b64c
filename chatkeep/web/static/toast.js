/** A short word above everything else, with a button: what has just happened, and the way back. */

import { byId, button, el, icon } from './dom.js';
import { label, say } from './i18n.js';

const root = byId('toast');

/** Show words and one button: a text's name and what the button does. Returns how to take them away again. */
export function showToast(words, [name, act]) {
  const shown = el('div', 'words', el('p', '', words));
  const hide = () => shown.isConnected && root.replaceChildren();
  const close = label(button('tool', hide, icon('close')), 'close');
  shown.append(say(button('link', () => (hide(), act())), name), close);
  root.replaceChildren(shown);
  announce(words);
  return hide;
}

/** Have a screen reader say something, when it has finished what it is saying. */
export function announce(words) {
  byId('announcer').textContent = words;
}
