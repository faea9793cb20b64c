/** The signed-in user. Unsent text of one user is not shown to another. */

import { signOut } from './api.js';
import { forgetWriting } from './drafts.js';
import { browser } from './storage.js';

let known = null;

/** Return the signed-in user, or null if not known yet. */
export const currentWho = () => known;

/** Store the signed-in user. If it is another one than before, reload the page. */
export function meet(who) {
  known = who;
  const before = browser.read('owner', null);
  browser.write('owner', who.owner);
  if (before !== null && before !== who.owner) beginAnew();
}

/** Sign out, and remove unsent text. */
export async function leave() {
  await signOut();
  browser.write('owner', null);
  beginAnew();
}

function beginAnew() {
  forgetWriting();
  history.replaceState(null, '', location.pathname);
  location.reload();
}
