/** What went wrong, in words, above the box where messages are written. */

import { byId, button, el } from './dom.js';
import { say } from './i18n.js';

const root = byId('notice');
let retry = null;

/** Show words and buttons: pairs of a text's name and what the button does. */
export function showNotice(words, ...actions) {
  retry = null;
  const buttons = actions.map(([name, act]) => say(button('link', () => (hideNotice(), act())), name));
  root.replaceChildren(el('p', '', words), el('div', 'actions', ...buttons));
  root.hidden = false;
}

/**
 * Show how something failed, with a button to try `again`. If the server could not be reached, `retryFailed` does what
 * `alone` does: the same, unless the reader may have changed something meanwhile.
 */
export function showFailure(problem, words, again, { alone = again, more = [] } = {}) {
  showNotice(words, ['try_again', again], ...more);
  if (problem.code === 'unreachable') retry = alone;
}

/** The server is reached again: retry what failed because it was not. */
export function retryFailed() {
  const alone = retry;
  if (!alone) return;
  hideNotice();
  alone();
}

/** Take the notice away. */
export function hideNotice() {
  retry = null;
  root.hidden = true;
  root.replaceChildren();
}
