/** Who is signed in. What somebody wrote here and has not sent is not shown to somebody else. */

import { signOut } from './api.js';
import { forgetWriting } from './drafts.js';
import { browser } from './storage.js';

let known = null;

/** Return what the server said of who is signed in; null where it was not asked yet. */
export const currentWho = () => known;

/** Note who is signed in; where that is somebody else than before, the page begins anew. */
export function meet(who) {
  known = who;
  const before = browser.read('owner', null);
  browser.write('owner', who.owner);
  if (before !== null && before !== who.owner) beginAnew();
}

/** Sign out, and forget what was written here. */
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
