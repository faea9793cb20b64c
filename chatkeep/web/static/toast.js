/** A short word above everything else, with a button: what has just happened, and the way back. */

import { byId, button, el, icon } from './dom.js';
import { label, say } from './i18n.js';

const root = byId('toast');
let retry = null;

/** Show words and one button: a text's name and what the button does. Returns how to take them away again. */
export function showToast(words, [name, act]) {
  retry = null;
  const shown = el('div', 'words', el('p', '', words));
  const hide = () => shown.isConnected && root.replaceChildren();
  const close = label(button('tool', hide, icon('close')), 'close');
  shown.append(say(button('link', () => (hide(), act())), name), close);
  root.replaceChildren(shown);
  announce(words);
  return hide;
}

/**
 * Show how something failed, with a button to try `again`. If the server could not be reached, `retryToast` does what
 * `alone` does: the same, unless the reader may have changed something meanwhile.
 */
export function showFailedToast(problem, words, again, { alone = again } = {}) {
  const hide = showToast(words, ['try_again', again]);
  if (problem.code === 'unreachable') retry = () => alone() !== false && hide();
}

/** The server is reached again: retry what failed because it was not, if that still shows. */
export function retryToast() {
  const alone = root.hasChildNodes() && retry;
  retry = null;
  if (alone) alone();
}

/** Have a screen reader say something, when it has finished what it is saying. */
export function announce(words) {
  byId('announcer').textContent = words;
}
