/** The messages of the open conversation. */

import { listenForCopies } from './code.js';
import { byId, button, el } from './dom.js';
import { say } from './i18n.js';
import { MessageView } from './message.js';

// Load earlier messages long before the user reaches them.
const early = '1500px 0px 0px';

/** The log of messages. `acts` has the actions of its buttons: `showEarlier`, and those of messages. */
export class Thread {
  constructor(acts) {
    this.root = byId('messages');
    this.welcome = byId('welcome');
    this.cut = byId('cut');
    this.acts = acts;
    this.views = [];
    this.earlier = say(button('link earlier', acts.showEarlier), 'earlier');
    // Of several entries, the last one is current.
    const look = (entries) => entries.at(-1).isIntersecting && acts.showEarlier();
    this.nearStart = new IntersectionObserver(look, { root: byId('scroller'), rootMargin: early });
    listenForCopies(this.root);
  }

  /** Remove everything. `welcome` shows the greeting of a new conversation. */
  clear({ welcome = false } = {}) {
    this.views = [];
    this.loading = false;
    this.oldest = null;
    this.nearStart.disconnect();
    this.root.replaceChildren();
    this.cut.hidden = true;
    this.welcome.hidden = !welcome;
  }

  /** Show that the messages are being loaded. */
  showLoading() {
    this.clear();
    this.loading = true;
    this.root.append(say(el('p', 'loading'), 'loading'));
  }

  /** Hide the buttons that don't work while a reply is generated. */
  setBusy(busy) {
    this.root.classList.toggle('busy', busy);
  }

  /** Return detached views of a page of messages, newest first, when their text is rendered. */
  async prepare({ data }) {
    const views = data.map((message) => this.view(message));
    await Promise.all(views.map(({ shown }) => shown));
    return views;
  }

  /** Show the newest page of messages by its views. */
  show(page, views) {
    this.clear();
    this.prepend(page, views);
  }

  /** Show a page of older messages above the others. */
  prepend({ has_more: hasMore, last_id: lastId }, views) {
    const older = [...views].reverse();
    this.views.unshift(...older);
    this.oldest = lastId;
    const nodes = older.map(({ node }) => node);
    // Don't move the button, so that it keeps the focus.
    if (this.earlier.parentNode) rest(this.earlier, el('div', 'older', ...nodes));
    else this.root.prepend(...(hasMore ? [this.earlier] : []), ...nodes);
    this.awaitStart(hasMore);
  }

  // A new observation reports at once whether the start is near.
  awaitStart(hasMore) {
    this.nearStart.disconnect();
    this.cut.hidden = !hasMore;
    if (hasMore) return this.nearStart.observe(this.earlier);
    if (this.earlier === document.activeElement) byId('scroller').focus({ preventScroll: true });
    this.earlier.remove();
  }

  /** Add a message at the end and return its view. */
  add(message) {
    const view = this.view(message);
    this.welcome.hidden = true;
    this.views.push(view);
    this.root.append(view.node);
    return view;
  }

  /** Return a detached view of a message. */
  view(message) {
    return new MessageView(message, this.acts);
  }

  /** Remove the last messages. */
  remove(...views) {
    this.views = this.views.filter((view) => !views.includes(view));
    for (const view of views) view.node.remove();
    this.welcome.hidden = this.views.length > 0;
  }

  /** Remove a message and all that follow. Return their views. */
  cutFrom(view) {
    const cut = this.views.splice(this.views.indexOf(view));
    for (const { node } of cut) node.remove();
    return cut;
  }

  /** Put views back at the end. */
  restore(views) {
    this.views.push(...views);
    this.root.append(...views.map(({ node }) => node));
  }

  /** Whether all messages are loaded. */
  get isWhole() {
    return this.cut.hidden;
  }

  /** Return the last message, or the last of a role. */
  last(role) {
    return this.views.findLast((view) => !role || view.role === role);
  }

  /** Return the view of a message. */
  find(id) {
    return this.views.find((view) => view.id === id);
  }

  /** The number of last messages that were sent from here, without the server's fields. */
  get unknown() {
    const first = this.views.findIndex(({ known }) => !known);
    return first < 0 ? 0 : this.views.length - first;
  }

  /** Update the last messages with the server's fields, newest first. */
  learn(messages) {
    const last = this.views.slice(-messages.length).reverse();
    const same = messages.every(({ role, content }, index) => role === last[index]?.role && content === last[index].content);
    if (same) messages.forEach((message, index) => last[index].learn(message));
  }
}

// The browser skips the layout of distant pages of older messages. Their height is fixed, so that nothing moves.
function rest(before, page) {
  before.after(page);
  page.style.containIntrinsicBlockSize = `auto ${page.offsetHeight}px`;
  page.style.contentVisibility = 'auto';
}
