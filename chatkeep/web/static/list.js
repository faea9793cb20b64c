/** The list of conversations. */

import * as api from './api.js';
import { describeConversation } from './actions.js';
import { byId, button, el } from './dom.js';
import { findExcerpt, holds } from './excerpt.js';
import { isOver } from './expiry.js';
import { arrange, groupOf, makeGroups } from './groups.js';
import { say, t } from './i18n.js';
import { explain } from './problems.js';
import { editTitle } from './rename.js';
import { Row } from './row.js';
import { tellTabs } from './tabs.js';
import { announce, showFailedToast } from './toast.js';

const isLoose = ({ pinned }) => !pinned;
const byActivity = (one, other) => Date.parse(other.last_active) - Date.parse(one.last_active);

function without(items, others) {
  const ids = new Set(others.map(({ id }) => id));
  return items.filter(({ id }) => !ids.has(id));
}

/**
 * Shows conversations by activity, or the results of a search. Calls `changed()` when a conversation has changed, and
 * `gone(id)` when one no longer exists.
 */
export class ConversationList {
  constructor({ changed, gone }) {
    Object.assign(this, { changed, gone, current: null, query: '', items: [], end: null });
    Object.assign(this, { outdated: false, loaded: false, renaming: false, waiting: false });
    this.known = new Map();
    this.hidden = new Set();
    this.rows = new Map();
    this.excerpts = new Map();
    this.searching = new AbortController();
    this.groups = makeGroups();
    this.note = byId('list-note');
    this.more = byId('more');
    this.more.addEventListener('click', () => this.loadMore());
    this.nearEnd = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.loadMore());
    this.root = byId('conversations');
    this.root.append(...[...this.groups.values()].map(({ node }) => node));
  }

  /** Refresh the pinned conversations and the newest page of the others. Keeps pages loaded beyond it. */
  refresh() {
    return this.load();
  }

  /** Show only conversations whose title or text matches the query; all of them if it is empty. */
  search(query) {
    if (query === this.query) return;
    this.query = query;
    this.searching.abort();
    this.searching = new AbortController();
    this.excerpts.clear();
    this.startOver();
  }

  async loadMore() {
    if (this.waiting) return;
    this.waiting = true;
    await this.load(this.end);
    this.waiting = false;
  }

  async load(after) {
    const { signal } = this.searching;
    try {
      if (after) this.takeMore(await api.listConversations(after, this.query, signal));
      else this.takeNewest(...(await this.readNewest(signal)));
    } catch (error) {
      if (error.name === 'AbortError') return;
      if (!(error instanceof api.Problem)) throw error;
      // The conversation before the next page may have expired: start over.
      if (after && error.status === 422) return this.startOver();
      this.noteFailure(button('link', () => this.load(after)));
    }
  }

  startOver() {
    this.outdated = true;
    return this.load();
  }

  // As many as the user has loaded, up to one page.
  readNewest(signal) {
    const count = this.outdated ? 0 : this.items.filter(isLoose).length;
    return Promise.all([api.listConversations(undefined, this.query, signal, count), api.listPinned(this.query, signal)]);
  }

  // Conversations beyond the newest page are unchanged, except that they are not pinned. Those before its end that are
  // not on it are gone.
  takeNewest({ data, has_more: hasMore, last_id: end }, pinned) {
    // A conversation pinned between the two answers is in both.
    const fresh = [...pinned, ...without(data, pinned)];
    const isBeyond = (item) => isLoose(item) && byActivity(item, data.at(-1)) >= 0;
    const beyond = this.outdated || !hasMore ? [] : without(this.items, fresh).filter(isBeyond);
    if (!beyond.length) this.goOnBehind(end, hasMore);
    if (this.outdated && this.query) this.announceFound(fresh.length, hasMore);
    this.outdated = false;
    this.keep([...fresh, ...beyond], fresh);
  }

  takeMore({ data, has_more: hasMore, last_id: end }) {
    this.goOnBehind(end, hasMore);
    this.keep([...without(this.items, data), ...data], data);
  }

  // Where the next page begins, whatever happens to the conversations on this one.
  goOnBehind(end, hasMore) {
    this.end = end;
    this.more.hidden = !hasMore;
  }

  keep(items, fresh) {
    this.items = items;
    for (const item of fresh) this.known.set(item.id, item);
    this.loaded = true;
    this.render();
    this.changed();
    this.quote(fresh);
  }

  announceFound(found, hasMore) {
    announce(t('found', { count: hasMore ? `${found}+` : found }));
  }

  /** Search the texts of results whose title does not match. */
  async quote(items) {
    const { query, searching } = this;
    for (const { id, title } of query ? items : []) {
      if (holds(title, query) || this.excerpts.has(id)) continue;
      this.excerpts.set(id, '');
      const excerpt = await findExcerpt(id, query, searching.signal).catch(() => null);
      if (searching.signal.aborted) return;
      // A failed search is repeated with the next refresh.
      if (excerpt === null) this.excerpts.delete(id);
      else this.excerpts.set(id, excerpt);
      this.render();
    }
  }

  /** Mark the open conversation. */
  select(id) {
    this.current = id;
    this.render();
  }

  /** Return a known conversation. */
  find(id) {
    return this.known.get(id);
  }

  /** Update a conversation. */
  learn(item) {
    this.known.set(item.id, item);
    this.items = this.items.map((known) => (known.id === item.id ? item : known));
    this.render();
    this.changed();
  }

  /** Remove a conversation that is gone. */
  forget(id) {
    this.items = this.items.filter((item) => item.id !== id);
    this.known.delete(id);
    this.rows.delete(id);
    this.hidden.delete(id);
    this.render();
  }

  /** Hide a conversation. */
  hide(id) {
    const row = this.rows.get(id)?.node;
    const next = row?.contains(document.activeElement) && this.neighbour(row);
    this.hidden.add(id);
    this.render();
    if (next) next.focus();
  }

  /** Show a conversation again. */
  unhide(id) {
    this.hidden.delete(id);
    this.render();
  }

  /** Let the user edit a conversation's title in place of `node`. */
  async rename(id, node = this.rows.get(id).link) {
    this.renaming = true;
    const title = await editTitle(node, this.find(id).title);
    this.renaming = false;
    this.render();
    if (title) await this.change(id, { title });
  }

  /** Change a conversation's title or pin. Reverts it if that fails. */
  async change(id, changes) {
    const before = this.find(id);
    this.learn({ ...before, ...changes });
    try {
      this.learn(await api.changeConversation(id, changes));
      tellTabs();
    } catch (error) {
      const words = explain(error);
      if (error.status === 404) return this.gone(id);
      this.learn(before);
      const again = () => this.change(id, changes);
      // The user may have changed the same field again meanwhile.
      const isSame = () => Object.keys(changes).every((name) => this.find(id)?.[name] === before[name]);
      showFailedToast(error, words, again, { alone: () => isSame() && again() });
    }
  }

  /** Update everything that depends on the time. */
  tick() {
    if (this.items.some(isOver)) this.startOver();
    else this.render();
  }

  render() {
    if (this.renaming) return;
    const focused = document.activeElement;
    const shown = this.items.filter(({ id }) => !this.hidden.has(id)).sort(byActivity);
    for (const [name, { node, rows }] of this.groups) {
      const members = shown.filter((item) => groupOf(item) === name);
      arrange(rows, members.map((item) => this.row(item)));
      node.hidden = !members.length;
    }
    // A moved row has lost the focus.
    if (this.root.contains(focused)) focused.focus();
    if (this.loaded) this.noteEmpty(!shown.length);
    this.awaitEnd();
  }

  noteEmpty(empty) {
    this.note.hidden = !empty;
    this.note.replaceChildren(say(el('span'), this.query ? 'nothing_found' : 'empty_list'));
  }

  row(item) {
    const { id } = item;
    if (!this.rows.has(id)) this.rows.set(id, new Row(id, () => describeConversation(this, id)));
    const row = this.rows.get(id);
    row.show(item, { current: id === this.current, query: this.query, excerpt: this.excerpts.get(id) });
    return row.node;
  }

  // A new observation reports at once whether the end is near.
  awaitEnd() {
    this.nearEnd.disconnect();
    if (!this.more.hidden) this.nearEnd.observe(this.more);
  }

  /** Focus a conversation. */
  focus(id) {
    this.rows.get(id)?.link.focus();
  }

  neighbour(row) {
    const all = [...this.root.querySelectorAll('li')];
    const here = all.indexOf(row);
    return (all[here + 1] ?? all[here - 1])?.querySelector('a') ?? byId('new');
  }

  noteFailure(retry) {
    this.loaded = false;
    this.note.hidden = false;
    this.note.replaceChildren(say(el('span'), 'list_failed'), ' ', say(retry, 'try_again'));
  }
}
