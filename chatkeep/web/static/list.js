/** The list of conversations. */

import * as api from './api.js';
import { byId, button, el, icon } from './dom.js';
import { ago, moment, say, t } from './i18n.js';

/** Shows conversations, newest activity first; `remove` is called with the one to delete. */
export class ConversationList {
  constructor({ remove }) {
    this.remove = remove;
    this.root = byId('conversations');
    this.note = byId('list-note');
    this.more = byId('more');
    this.more.addEventListener('click', () => this.load(this.items.at(-1)?.id));
    this.items = [];
    this.current = null;
  }

  /** Bring the newest page up to date; what was loaded beyond it stays. */
  refresh() {
    return this.load();
  }

  async load(after) {
    try {
      this.take(await api.listConversations(after), after);
    } catch (error) {
      if (!(error instanceof api.Problem)) throw error;
      // The conversation that the next page begins behind may have expired: begin again.
      if (after && error.status === 422) return this.startOver();
      this.noteFailure(button('link', () => this.load(after)));
    }
  }

  startOver() {
    this.items = [];
    return this.load();
  }

  take({ data, has_more: hasMore }, after) {
    const fresh = new Set(data.map((item) => item.id));
    const others = this.items.filter((item) => !fresh.has(item.id));
    if (after) this.items = [...others, ...data];
    else this.items = hasMore ? [...data, ...others] : data;
    // A newer first page says nothing of what follows the pages that were loaded before.
    if (after || !hasMore || !others.length) this.more.hidden = !hasMore;
    this.render();
  }

  /** Mark the open conversation. */
  select(id) {
    this.current = id;
    this.render();
  }

  /** Return what is known of a conversation. */
  find(id) {
    return this.items.find((item) => item.id === id);
  }

  /** Take a deleted conversation out. */
  forget(id) {
    this.items = this.items.filter((item) => item.id !== id);
    this.render();
  }

  render() {
    const focused = document.activeElement?.closest('#conversations li')?.dataset.id;
    this.root.replaceChildren(...this.items.map((item) => this.row(item)));
    if (focused) this.focus(focused);
    this.note.hidden = this.items.length > 0;
    this.note.replaceChildren(say(el('span'), 'empty_list'));
  }

  focus(id) {
    this.root.querySelector(`[data-id="${CSS.escape(id)}"] a`)?.focus();
  }

  row(item) {
    const title = item.title || t('untitled');
    const link = el('a', 'entry', named(title), when(item));
    link.href = `#${item.id}`;
    if (item.id === this.current) link.setAttribute('aria-current', 'page');
    const remove = button('tool', () => this.remove(item), icon('delete'));
    remove.title = t('delete');
    remove.setAttribute('aria-label', t('delete_named', { title }));
    const row = el('li', '', link, remove);
    row.dataset.id = item.id;
    return row;
  }

  noteFailure(retry) {
    this.note.hidden = false;
    this.note.replaceChildren(say(el('span'), 'list_failed'), ' ', say(retry, 'try_again'));
  }
}

function named(title) {
  const node = el('span', 'title', title);
  node.dir = 'auto';
  node.title = title;
  return node;
}

function when({ last_active: lastActive }) {
  const node = el('time', '', ago(lastActive));
  node.dateTime = lastActive;
  node.title = moment(lastActive);
  return node;
}
