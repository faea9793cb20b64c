/** Poll for changes while the page is visible, and retry what failed while the server was unreachable. */

import { whoAmI } from './api.js';
import { retryFailed } from './notice.js';
import { explain } from './problems.js';
import { whenTold } from './tabs.js';
import { retryToast } from './toast.js';
import { currentWho, meet } from './who.js';

const every = 15_000;

export class News {
  constructor(list) {
    this.list = list;
    this.looking = false;
  }

  /** Look every 15 s, and when the page is shown, the network is back or another tab has changed something. */
  listen() {
    const look = (event) => this.look(event);
    document.addEventListener('visibilitychange', look);
    addEventListener('focus', look);
    addEventListener('online', look);
    whenTold(look);
    setInterval(look, every);
  }

  async look(event) {
    // A request that began without a network may never end.
    if ((this.looking && event?.type !== 'online') || document.hidden || !navigator.onLine) return;
    this.looking = true;
    await this.list.refresh();
    this.looking = false;
    if (!this.list.loaded) return;
    retryFailed();
    retryToast();
    if (!currentWho()) this.learnWho();
  }

  /** Learn who is signed in. */
  async learnWho() {
    try {
      meet(await whoAmI());
    } catch (error) {
      // The menu shows no name then. `explain` rethrows errors other than Problem.
      explain(error);
    }
  }
}
