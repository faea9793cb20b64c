/** The messages of the open conversation. */

import { listenForCopies } from './code.js';
import { byId, button, el } from './dom.js';
import { say } from './i18n.js';
import { MessageView } from './message.js';

// Long before the reader is there, so that nobody waits at the edge of the text.
const early = '1500px 0px 0px';

/** The log of messages; `acts` has what its buttons do: `showEarlier`, and those of a message. */
export class Thread {
  constructor(acts) {
    this.root = byId('messages');
    this.welcome = byId('welcome');
    this.cut = byId('cut');
    this.acts = acts;
    this.views = [];
    this.earlier = say(button('link earlier', acts.showEarlier), 'earlier');
    // Of several that came together the last one tells how it is now.
    const look = (entries) => entries.at(-1).isIntersecting && acts.showEarlier();
    this.nearStart = new IntersectionObserver(look, { root: byId('scroller'), rootMargin: early });
    listenForCopies(this.root);
  }

  /** Take everything away; `welcome` shows the greeting of a new conversation instead. */
  clear({ welcome = false } = {}) {
    this.views = [];
    this.loading = false;
    this.oldest = null;
    this.nearStart.disconnect();
    this.root.replaceChildren();
    this.cut.hidden = true;
    this.welcome.hidden = !welcome;
  }

  /** Say that the messages are on their way. */
  showLoading() {
    this.clear();
    this.loading = true;
    this.root.append(say(el('p', 'loading'), 'loading'));
  }

  /** Hide what is of no use while a reply is generated. */
  setBusy(busy) {
    this.root.classList.toggle('busy', busy);
  }

  /** Return the views of a page of messages, newest first, once their text is in place; they stand nowhere yet. */
  async prepare({ data }) {
    const views = data.map((message) => this.view(message));
    await Promise.all(views.map(({ shown }) => shown));
    return views;
  }

  /** Show the newest page of messages, and the views that were made of it. */
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
    // The button stays where it is: whoever uses it by keys uses it again.
    if (this.earlier.parentNode) rest(this.earlier, el('div', 'older', ...nodes));
    else this.root.prepend(...(hasMore ? [this.earlier] : []), ...nodes);
    this.awaitStart(hasMore);
  }

  // Observing anew tells at once whether the start of the text is near already.
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

  /** Return the view of a message, which stands nowhere yet. */
  view(message) {
    return new MessageView(message, this.acts);
  }

  /** Take the last messages away again. */
  remove(...views) {
    this.views = this.views.filter((view) => !views.includes(view));
    for (const view of views) view.node.remove();
    this.welcome.hidden = this.views.length > 0;
  }

  /** Take a message and all that follows away, and return their views. */
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

  /** Whether all messages are here. */
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

  /** How many of the last messages were sent from here, and nothing else is known of them. */
  get unknown() {
    const first = this.views.findIndex(({ known }) => !known);
    return first < 0 ? 0 : this.views.length - first;
  }

  /** Learn what the server knows of the last messages, newest first. */
  learn(messages) {
    const last = this.views.slice(-messages.length).reverse();
    const same = messages.every(({ role, content }, index) => role === last[index]?.role && content === last[index].content);
    if (same) messages.forEach((message, index) => last[index].learn(message));
  }
}

// A page of older messages is no work for the browser while it is far from what is seen, however many there are. Its
// height is known by then, so that nothing moves.
function rest(before, page) {
  before.after(page);
  page.style.containIntrinsicBlockSize = `auto ${page.offsetHeight}px`;
  page.style.contentVisibility = 'auto';
}
