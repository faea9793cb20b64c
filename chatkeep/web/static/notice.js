/** The notice above the message box: errors and what to do. */

import { byId, button, el } from './dom.js';
import { say } from './i18n.js';

const root = byId('notice');
let retry = null;

/** Show words and buttons: pairs of a text's name and an action. */
export function showNotice(words, ...actions) {
  retry = null;
  const buttons = actions.map(([name, act]) => say(button('link', () => (hideNotice(), act())), name));
  root.replaceChildren(el('p', '', words), el('div', 'actions', ...buttons));
  root.hidden = false;
}

/**
 * Show a failure with a button to try `again`. If the server was unreachable, `retryFailed` calls `alone`, which does
 * the same unless the user may have changed something meanwhile.
 */
export function showFailure(problem, words, again, { alone = again, more = [] } = {}) {
  showNotice(words, ['try_again', again], ...more);
  if (problem.code === 'unreachable') retry = alone;
}

/** Retry what failed because the server was unreachable. */
export function retryFailed() {
  const alone = retry;
  if (!alone) return;
  hideNotice();
  alone();
}

/** Hide the notice. */
export function hideNotice() {
  retry = null;
  root.hidden = true;
  root.replaceChildren();
}
