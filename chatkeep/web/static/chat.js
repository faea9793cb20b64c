/** The chat page: the open conversation, the running turn, and the wiring of the page's parts. */

import * as api from './api.js';
import { describePage } from './actions.js';
import './banner.js';
import { Composer } from './composer.js';
import { byId } from './dom.js';
import { fillOutbox, keepDraft, readDraft } from './drafts.js';
import { closeDrawer, openDrawer } from './drawer.js';
import { everyMinute } from './expiry.js';
import { Header } from './header.js';
import { switchLanguage, t, translatePage } from './i18n.js';
import { listenToKeeping } from './keeping.js';
import { ConversationList } from './list.js';
import { menuButton } from './menu.js';
import { endOf } from './message.js';
import { News } from './news.js';
import { hideNotice, showFailure, showNotice } from './notice.js';
import { MessagePages } from './pages.js';
import { wholePrinting } from './printing.js';
import { explain } from './problems.js';
import { EndFollower, turnPages } from './scroll.js';
import { focusSearch, listenToSearch } from './search.js';
import { keysOf, listenToShortcuts } from './shortcuts.js';
import { askForKey } from './sign-in.js';
import { Thread } from './thread.js';
import { tellTabs } from './tabs.js';
import { announce } from './toast.js';
import { readTurn } from './turn.js';
import { finishDeletions, undo } from './undo.js';
import { Unsent } from './unsent.js';
import { currentWho } from './who.js';

const list = new ConversationList({ changed: showTitle, gone: noteGone });
const thread = new Thread({ regenerate, edit: startEdit, turnTo, showEarlier });
const composer = new Composer({ send, stop, changed: (text) => unsent.note(text) });
const scroll = new EndFollower(byId('scroller'), byId('content'), byId('to-end'));
const pages = new MessagePages(() => ({ id: conversationId, visit }), { list, thread, scroll });
const header = new Header(list, { over: checkExpiry, print: wholePrinting(pages) });
const unsent = new Unsent(() => ({ id: conversationId, running }), { composer, thread, send });
const news = new News(list);

let conversationId = null;
let running = null;
let visit = new AbortController();

/** Open the conversation in the URL's fragment, or a new one. */
async function openFromAddress() {
  const id = location.hash.slice(1) || null;
  leave();
  select(id);
  closeDrawer();
  hideNotice();
  composer.text = readDraft(id);
  const mine = visit;
  if (id) await load(id, mine.signal);
  else thread.clear({ welcome: true });
  if (mine !== visit) return;
  unsent.offer();
  composer.focus();
}

/** Stop following the running turn, which goes on at the server. Does not abort a message that is being sent. */
function leave() {
  if (running?.text && !running.begun) running.left = true;
  else visit.abort();
  visit = new AbortController();
  running = null;
  setMode('idle');
}

function setMode(mode) {
  composer.setMode(mode);
  thread.setBusy(mode !== 'idle');
}

function select(id) {
  conversationId = id;
  list.select(id);
  showTitle();
}

function showTitle() {
  header.show(conversationId, running?.text);
}

/** Ask the server whether the open conversation has expired. */
async function checkExpiry() {
  if (running || thread.loading) return showTitle();
  const id = conversationId;
  try {
    const { messages: _, ...conversation } = await api.openConversation(id, undefined, visit.signal);
    list.learn(conversation);
  } catch (error) {
    if (error.status === 404) forgetGone(id);
    else if (error.name !== 'AbortError') showTitle();
  }
}

function noteGone(id) {
  if (id === conversationId) return forgetGone(id);
  list.forget(id);
  showNotice(t('gone'), ['close', () => composer.focus()]);
}

async function load(id, signal) {
  thread.showLoading();
  try {
    const { messages, ...conversation } = await api.openConversation(id, undefined, signal);
    list.learn(conversation);
    const views = await thread.prepare(messages);
    if (signal.aborted) return;
    thread.show(messages, views);
    scroll.goToEnd();
    followLast();
  } catch (error) {
    if (error.name === 'AbortError') return;
    thread.clear();
    if (error.status === 404) forgetGone(id);
    else showFailure(error, `${t('open_failed')} ${explain(error)}`, openFromAddress);
  }
}

/** The conversation was deleted or has expired: move its draft to a new one. */
function forgetGone(id) {
  keepDraft(null, readDraft(null) || composer.text);
  keepDraft(id, '');
  list.forget(id);
  history.replaceState(null, '', '#');
  openFromAddress();
  showNotice(t('gone'), ['close', () => composer.focus()]);
}

async function showEarlier() {
  try {
    await pages.showEarlier();
  } catch (error) {
    if (error.name !== 'AbortError') showFailure(error, explain(error), showEarlier);
  }
}

/** Follow a reply that is running when its conversation is opened. */
function followLast() {
  const reply = thread.last();
  if (reply?.status !== 'generating') return;
  const place = { conversationId, messageId: reply.id, characters: reply.characters };
  run({ reply, place, visit });
}

/** Send the text of the box, or a text that could not be sent before. */
function send(text) {
  if (running || thread.loading) return;
  hideNotice();
  composer.focus();
  const key = fillOutbox(conversationId, text, thread.last()?.id ?? '');
  if (composer.text === text) {
    composer.text = '';
    keepDraft(conversationId, '');
  }
  const question = thread.add({ role: 'user', content: text });
  const reply = thread.add({ role: 'assistant', status: 'generating' });
  const place = { conversationId, messageId: null, characters: 0 };
  scroll.goToEnd();
  const turn = { question, reply, place, visit, text, sentTo: conversationId };
  run(turn, api.takeTurn(text, conversationId, key, visit.signal));
}

/** Regenerate a reply. The new one replaces it and all later messages on the page. */
function regenerate(old) {
  if (running || thread.loading) return;
  hideNotice();
  composer.focus();
  // Keep the key if there was no answer, so that a retry cannot create two replies.
  old.key ??= api.newKey();
  const cut = thread.cutFrom(old);
  const reply = thread.add({ role: 'assistant', status: 'generating' });
  const place = { conversationId, messageId: null, characters: 0 };
  scroll.goToEnd();
  const turn = { reply, cut, place, visit, again: () => regenerate(old) };
  run(turn, api.regenerateReply(conversationId, old.id, old.key, visit.signal));
}

function startEdit(old, text = old.content) {
  old.edit(text, (changed) => (changed === old.content ? old.endEdit() : sendEdit(old, changed)));
}

/** Edit a message: the conversation continues from there. */
function sendEdit(old, text) {
  if (running || thread.loading) return;
  hideNotice();
  old.endEdit();
  composer.focus();
  if (old.changed?.text !== text) old.changed = { text, key: api.newKey() };
  const cut = thread.cutFrom(old);
  const question = thread.add({ role: 'user', content: text });
  const reply = thread.add({ role: 'assistant', status: 'generating' });
  const place = { conversationId, messageId: null, characters: 0 };
  scroll.goToEnd();
  const turn = { question, reply, cut, place, visit, text, sentTo: conversationId, again: () => sendEdit(old, text) };
  run(turn, api.editMessage(conversationId, old.id, text, old.changed.key, visit.signal));
}

/** Show another sibling of a message and the branch below it. `name` is the class of the pressed button. */
async function turnTo(id, name) {
  if (running || thread.loading) return;
  hideNotice();
  try {
    await pages.switchTo(id, name);
  } catch (error) {
    if (error.name !== 'AbortError') showFailure(error, explain(error), () => turnTo(id, name));
  }
}

async function run(turn, first) {
  running = turn;
  showTitle();
  setMode('generating');
  try {
    for await (const event of readTurn(turn.place, turn.visit.signal, first)) show(turn, event);
  } catch (error) {
    if (error.name === 'AbortError') return;
    fail(turn, error);
  }
  list.refresh().then(showTitle);
  tellTabs();
  if (running !== turn) return;
  running = null;
  setMode('idle');
  pages.learnLast(turn.visit);
}

function show(turn, { type, data }) {
  if (turn.left) return letGo(turn, data);
  turn.reply.remark(type === 'waiting' ? 'reconnecting' : null);
  if (type === 'start') begin(turn, data);
  else if (type === 'delta') grow(turn.reply, data);
  else if (type === 'done') end(turn.reply, data);
  else if (type === 'error') breakOff(turn.reply, new api.Problem(data, data.status));
}

/** The turn began after the user had left: it goes on without this page. */
function letGo(turn, { conversation_id: id }) {
  unsent.forget(turn);
  turn.visit.abort();
  // A failed stop is not reported, because the user has left.
  if (turn.stopWanted) api.stopTurn(id).catch(() => {});
  list.refresh();
  // If the user is back already, show what has arrived.
  if (conversationId === turn.sentTo && !running) openFromAddress();
}

function begin(turn, { conversation_id: id, message_id: messageId, model, cached }) {
  turn.reply.id = messageId;
  turn.reply.settle({ status: 'generating', model, cached });
  // At position 0 the server sends the whole reasoning again.
  if (!turn.place.characters) turn.reply.forgetReasoning();
  if (!turn.begun) announce(t('reply_begins'));
  turn.begun = true;
  unsent.forget(turn);
  if (!conversationId) adopt(id);
  if (turn.stopWanted) stop();
}

/** Put the id of a new conversation into the URL and the list. */
function adopt(id) {
  keepDraft(null, '');
  keepDraft(id, composer.text);
  history.replaceState(null, '', `#${id}`);
  select(id);
  list.refresh().then(showTitle);
  tellTabs();
}

function grow(reply, { text, reasoning }) {
  if (reasoning) reply.addReasoning(reasoning);
  if (text) reply.addText(text);
}

function end(reply, ending) {
  reply.settle(ending);
  announce(t(endOf(ending) ?? 'reply_ended'));
}

function breakOff(reply, problem) {
  const interrupted = problem.code === 'reply_interrupted';
  const status = interrupted ? 'interrupted' : reply.content || reply.reasoning ? 'truncated' : 'failed';
  reply.settle({ status, error: interrupted ? '' : explain(problem) });
  announce(t(`status_${status}`));
}

/** Show how a stored turn failed. Give the text of one that was not stored back. */
function fail(turn, error) {
  const words = explain(error);
  if (error.status) unsent.forget(turn);
  if (turn.left) unsent.keep(turn, error);
  else if (error.messageId) failStored(turn, error);
  else if (turn.cut && !turn.begun) putBack(turn, error, words);
  else if (turn.text && !turn.begun) takeBack(turn, error, words);
  else loseSight(turn, error, words);
}

function failStored(turn, error) {
  turn.reply.id = error.messageId;
  breakOff(turn.reply, error);
  if (!conversationId) adopt(error.conversationId);
}

/** The reply goes on at the server, but cannot be followed. */
function loseSight(turn, error, words) {
  turn.reply.remark(null);
  showFailure(error, words, openFromAddress);
}

async function takeBack(turn, error, words) {
  thread.remove(turn.question, turn.reply);
  if (error.status === 404) forgetGone(conversationId);
  // Another turn is running in this conversation: show it.
  if (error.status === 409) await openFromAddress();
  unsent.giveBack(turn.text, error, error.status === 404 ? t('gone') : words);
}

/** Nothing was generated: restore the old messages, and an edited text to its box. */
function putBack({ question, reply, cut, again, text, sentTo }, error, words) {
  // The conversation is gone, or another turn is running in it: show the current state.
  if (error.status === 404 || error.status === 409) {
    unsent.keep({ sentTo, text }, error);
    return openFromAddress();
  }
  thread.remove(...[question, reply].filter(Boolean));
  thread.restore(cut);
  if (text) startEdit(cut[0], text);
  const alone = () => (!text || cut[0].edited === text) && again();
  showFailure(error, words, again, { alone });
}

async function stop() {
  if (!running) return;
  running.stopWanted = true;
  composer.setMode('stopping');
  const id = running.place.conversationId;
  // A new conversation has no id until its reply begins. The stop is sent then.
  if (!id) return;
  try {
    await api.stopTurn(id);
  } catch (error) {
    if (running) composer.setMode('generating');
    if (error.passing) showFailure(error, explain(error), stop);
  }
}

function noteEscape(event) {
  const free = !event.isComposing && event.keyCode !== 229 && !document.querySelector('dialog[open], #side.open');
  if (event.key === 'Escape' && free && running && composer.mode === 'generating') stop();
}

function startAnew() {
  if (conversationId) location.hash = '';
  else openFromAddress();
}

function search() {
  openDrawer();
  focusSearch();
}

function leaveSearch() {
  closeDrawer();
  composer.focus();
}

function lookAgain() {
  list.tick();
  showTitle();
}

function listen() {
  addEventListener('hashchange', openFromAddress);
  addEventListener('pageshow', ({ persisted }) => persisted && finishDeletions(list));
  addEventListener('keydown', noteEscape);
  news.listen();
  byId('new').addEventListener('click', () => conversationId || openFromAddress());
  byId('language').addEventListener('click', switchLanguage);
  addEventListener('language', lookAgain);
  menuButton(byId('settings'), describePage);
  turnPages(composer.box, byId('scroller'));
  listenToSearch({ search: (query) => list.search(query), leave: leaveSearch });
  listenToKeeping((id) => list.change(id, { pinned: true }));
  listenToShortcuts({ new: startAnew, search, undo });
  byId('search-keys').textContent = keysOf('search');
  everyMinute(lookAgain);
  byId('conversations').addEventListener('click', (event) => event.target.closest('a') && closeDrawer());
}

translatePage();
listen();
api.whenLocked(() => askForKey(currentWho() ? 'sign_in_again' : 'sign_in_hint'));
news.learnWho();
finishDeletions(list);
list.refresh().then(showTitle);
openFromAddress();
