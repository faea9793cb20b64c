/** The messages of the open conversation. */

import { byId, button, el } from './dom.js';
import { say } from './i18n.js';
import { MessageView } from './message.js';

/** The log of messages; `retry` and `showEarlier` are what its buttons do. */
export class Thread {
  constructor({ retry, showEarlier }) {
    this.root = byId('messages');
    this.welcome = byId('welcome');
    this.retry = retry;
    this.views = [];
    this.earlier = say(button('link earlier', showEarlier), 'earlier');
  }

  /** Take everything away; `welcome` shows the greeting of a new conversation instead. */
  clear({ welcome = false } = {}) {
    this.views = [];
    this.loading = false;
    this.root.replaceChildren();
    this.welcome.hidden = !welcome;
  }

  /** Say that the messages are on their way. */
  showLoading() {
    this.clear();
    this.loading = true;
    this.root.append(say(el('p', 'loading'), 'loading'));
  }

  /** Show the newest page of messages. */
  show(page) {
    this.clear();
    this.prepend(page);
  }

  /** Show a page of older messages above the others. */
  prepend({ data, has_more: hasMore, last_id: lastId }) {
    const views = data.map((message) => this.view(message)).reverse();
    this.views.unshift(...views);
    this.earlier.remove();
    this.root.prepend(...views.map((view) => view.node));
    this.oldest = lastId;
    if (hasMore) this.root.prepend(this.earlier);
  }

  /** Add a message at the end and return its view. */
  add(message) {
    const view = this.view(message);
    this.welcome.hidden = true;
    this.views.push(view);
    this.root.append(view.node);
    return view;
  }

  /** Return the view of a message, which stands nowhere yet. */
  view(message) {
    return new MessageView(message, this.retry);
  }

  /** Take the last messages away again. */
  remove(...views) {
    this.views = this.views.filter((view) => !views.includes(view));
    for (const view of views) view.node.remove();
    this.welcome.hidden = this.views.length > 0;
  }

  /** Return the last message, or the last of a role. */
  last(role) {
    return this.views.findLast((view) => !role || view.role === role);
  }

  /** Show one view in another's place. */
  replace(old, view) {
    this.views.splice(this.views.indexOf(old), 1, view);
    old.node.replaceWith(view.node);
  }
}
