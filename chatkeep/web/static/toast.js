/** A toast: a short text about what has just happened, with a button such as "undo". */

import { byId, button, el, icon } from './dom.js';
import { label, say } from './i18n.js';

const root = byId('toast');
let retry = null;

/** Show words and one button: a text's name and an action. Return a function that hides them. */
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
 * Show a failure with a button to try `again`. If the server was unreachable, `retryToast` calls `alone`, which does
 * the same unless the user may have changed something meanwhile.
 */
export function showFailedToast(problem, words, again, { alone = again } = {}) {
  const hide = showToast(words, ['try_again', again]);
  if (problem.code === 'unreachable') retry = () => alone() !== false && hide();
}

/** Retry what failed because the server was unreachable, if the toast still shows. */
export function retryToast() {
  const alone = root.hasChildNodes() && retry;
  retry = null;
  if (alone) alone();
}

/** Announce something by a screen reader, after its current speech. */
export function announce(words) {
  byId('announcer').textContent = words;
}
