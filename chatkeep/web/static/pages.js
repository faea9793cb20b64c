/** Load the open conversation's messages page by page, and switch between its branches. */

import * as api from './api.js';
import { explain } from './problems.js';

/** `current()` returns the open conversation's `id`, and the `visit` that is aborted when the user leaves it. */
export class MessagePages {
  constructor(current, { list, thread, scroll }) {
    this.current = current;
    this.list = list;
    this.thread = thread;
    this.scroll = scroll;
    this.awaited = null;
  }

  /** Show the page before the oldest message, unless it is being loaded already. */
  async showEarlier() {
    const { oldest } = this.thread;
    if (!oldest || oldest === this.awaited) return;
    this.awaited = oldest;
    try {
      await this.addEarlier(oldest);
    } finally {
      this.awaited = null;
    }
  }

  /** Whether all messages are loaded. */
  get isWhole() {
    return this.thread.isWhole;
  }

  /** Show all messages of the open conversation. Return whether it is still open. */
  async showAll() {
    const { visit } = this.current();
    while (visit === this.current().visit && !this.thread.isWhole) await this.addEarlier(this.thread.oldest, 100);
    return visit === this.current().visit;
  }

  async addEarlier(oldest, limit) {
    const { id, visit } = this.current();
    const { messages } = await api.openConversation(id, oldest, visit.signal, limit);
    const views = await this.thread.prepare(messages);
    // The user may have left meanwhile, or switched to a branch without these messages.
    if (oldest === this.thread.oldest) this.scroll.holdStill(() => this.thread.prepend(messages, views));
  }

  /** Make another sibling's branch the current one, and show it. `name` is the class of the pressed button. */
  async switchTo(siblingId, name) {
    const { id, visit } = this.current();
    await api.changeConversation(id, { current_id: siblingId });
    const { messages } = await api.openConversation(id, undefined, visit.signal);
    const views = await this.thread.prepare(messages);
    if (visit.signal.aborted) return;
    this.thread.show(messages, views);
    this.showSibling(this.thread.find(siblingId), name);
  }

  showSibling(view, name) {
    if (!view) return this.scroll.goToEnd();
    this.scroll.goTo(view.node);
    (view.node.querySelector(`.${name}:enabled`) ?? view.node.querySelector('.siblings :enabled')).focus();
  }

  /** Learn the ids and siblings of the messages just sent, which their buttons need. */
  async learnLast({ signal }) {
    const { id } = this.current();
    if (!id || !this.thread.unknown) return;
    const limit = Math.min(this.thread.unknown, 100);
    try {
      const { messages, ...conversation } = await api.openConversation(id, undefined, signal, limit);
      this.list.learn(conversation);
      this.thread.learn(messages.data);
    } catch (error) {
      // The buttons appear with the next reload. `explain` rethrows errors other than Problem.
      if (error.name !== 'AbortError') explain(error);
    }
  }
}
