/** The chat page: what is open, what is running, and how the parts of the page play together. */

import * as api from './api.js';
import { describePage } from './actions.js';
import './banner.js';
import { Composer } from './composer.js';
import { byId } from './dom.js';
import { clearOutbox, fillOutbox, keepDraft, readDraft, readOutbox } from './drafts.js';
import { closeDrawer, openDrawer } from './drawer.js';
import { everyMinute } from './expiry.js';
import { Header } from './header.js';
import { switchLanguage, t, translatePage } from './i18n.js';
import { listenToKeeping } from './keeping.js';
import { ConversationList } from './list.js';
import { menuButton } from './menu.js';
import { endOf } from './message.js';
import { hideNotice, retryFailed, showFailure, showNotice } from './notice.js';
import { wholePrinting } from './printing.js';
import { explain } from './problems.js';
import { EndFollower, turnPages } from './scroll.js';
import { focusSearch, listenToSearch } from './search.js';
import { keysOf, listenToShortcuts } from './shortcuts.js';
import { askForKey } from './sign-in.js';
import { Thread } from './thread.js';
import { tellTabs, whenTold } from './tabs.js';
import { announce, retryToast } from './toast.js';
import { readTurn } from './turn.js';
import { finishDeletions, undo } from './undo.js';
import { currentWho, meet } from './who.js';

const list = new ConversationList({ changed: showTitle, gone: noteGone });
const header = new Header(list, { over: checkExpiry, print: wholePrinting(() => thread.isWhole, loadAll) });
const thread = new Thread({ regenerate, edit: startEdit, turnTo, showEarlier });
const composer = new Composer({ send, stop, changed: noteDraft });
const scroll = new EndFollower(byId('scroller'), byId('content'), byId('to-end'));

// How often somebody who looks at the page is shown what came from elsewhere.
const every = 15_000;

let conversationId = null;
let running = null;
let awaited = null;
let visit = new AbortController();
let looking = false;

/** Open the conversation that the address names; without one, a new conversation. */
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
  offerUnsent();
  composer.focus();
}

/** Stop reading what runs here; on the server it goes on. A message that is still on its way is let through. */
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

/** The open conversation's time seems to be over: the server knows whether it is. */
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

/** The conversation is deleted or has expired: what was being written moves on to a new one. */
function forgetGone(id) {
  keepDraft(null, readDraft(null) || composer.text);
  keepDraft(id, '');
  list.forget(id);
  history.replaceState(null, '', '#');
  openFromAddress();
  showNotice(t('gone'), ['close', () => composer.focus()]);
}

async function showEarlier() {
  const { oldest } = thread;
  if (!oldest || oldest === awaited) return;
  awaited = oldest;
  try {
    await addEarlier(oldest);
  } catch (error) {
    if (error.name !== 'AbortError') showFailure(error, explain(error), showEarlier);
  } finally {
    awaited = null;
  }
}

async function addEarlier(oldest, limit) {
  const { messages } = await api.openConversation(conversationId, oldest, visit.signal, limit);
  const views = await thread.prepare(messages);
  // Meanwhile the reader may have gone elsewhere, or to a branch of which these are no part.
  if (oldest === thread.oldest) scroll.holdStill(() => thread.prepend(messages, views));
}

/** Show all messages of the open conversation; return whether it is still open. */
async function loadAll() {
  const mine = visit;
  while (mine === visit && !thread.isWhole) await addEarlier(thread.oldest, 100);
  return mine === visit;
}

/** Go on with a reply that was running when its conversation was opened. */
function followLast() {
  const reply = thread.last();
  if (reply?.status !== 'generating') return;
  const place = { conversationId, messageId: reply.id, characters: reply.characters };
  run({ reply, place, visit });
}

/** Take a turn with what stands in the box, or with a text that could not be sent before. */
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

/** Have a reply generated anew; the new one takes its place and that of all that followed. */
function regenerate(old) {
  if (running || thread.loading) return;
  hideNotice();
  composer.focus();
  // The same key where no answer came before: a retry cannot make two replies.
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

/** Say something else in place of a message: the conversation goes on from there. */
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

/** Show another sibling of a message, with the branch that goes on from it; `name` is the button that was pressed. */
async function turnTo(id, name) {
  if (running || thread.loading) return;
  hideNotice();
  const { signal } = visit;
  try {
    await api.changeConversation(conversationId, { current_id: id });
    const { messages } = await api.openConversation(conversationId, undefined, signal);
    const views = await thread.prepare(messages);
    if (signal.aborted) return;
    thread.show(messages, views);
    showSibling(thread.find(id), name);
  } catch (error) {
    if (error.name !== 'AbortError') showFailure(error, explain(error), () => turnTo(id, name));
  }
}

function showSibling(view, name) {
  if (!view) return scroll.goToEnd();
  scroll.goTo(view.node);
  (view.node.querySelector(`.${name}:enabled`) ?? view.node.querySelector('.siblings :enabled')).focus();
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
  learnLast(turn.visit);
}

/** Learn the ids and the siblings of what was sent, for the buttons of its messages. */
async function learnLast({ signal }) {
  if (!conversationId || !thread.unknown) return;
  const limit = Math.min(thread.unknown, 100);
  try {
    const { messages, ...conversation } = await api.openConversation(conversationId, undefined, signal, limit);
    list.learn(conversation);
    thread.learn(messages.data);
  } catch (error) {
    // Nobody misses what is lost: the buttons come with the next reload. `explain` throws what is no Problem.
    if (error.name !== 'AbortError') explain(error);
  }
}

function show(turn, { type, data }) {
  if (turn.left) return letGo(turn, data);
  turn.reply.remark(type === 'waiting' ? 'reconnecting' : null);
  if (type === 'start') begin(turn, data);
  else if (type === 'delta') grow(turn.reply, data);
  else if (type === 'done') end(turn.reply, data);
  else if (type === 'error') breakOff(turn.reply, new api.Problem(data, data.status));
}

/** The reader has left before the turn began; now that it has, it goes on without this page. */
function letGo(turn, { conversation_id: id }) {
  forgetSent(turn);
  turn.visit.abort();
  // Nobody is left to be told that the stop did not arrive.
  if (turn.stopWanted) api.stopTurn(id).catch(() => {});
  list.refresh();
  // Somebody who is back already is shown what has arrived.
  if (conversationId === turn.sentTo && !running) openFromAddress();
}

function begin(turn, { conversation_id: id, message_id: messageId, model, cached }) {
  turn.reply.id = messageId;
  turn.reply.settle({ status: 'generating', model, cached });
  // Whoever stands at the first character is sent the reasoning as a whole.
  if (!turn.place.characters) turn.reply.forgetReasoning();
  if (!turn.begun) announce(t('reply_begins'));
  turn.begun = true;
  forgetSent(turn);
  if (!conversationId) adopt(id);
  if (turn.stopWanted) stop();
}

/** A new conversation has got its id: it goes into the address and the list. */
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

/** A turn that was stored shows how it failed; one that was not gives its text back. */
function fail(turn, error) {
  const words = explain(error);
  if (error.status) forgetSent(turn);
  if (turn.left) keepUnsent(turn, error);
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
  // Somebody else's turn is running in this conversation: show it.
  if (error.status === 409) await openFromAddress();
  giveBack(turn.text, error, error.status === 404 ? t('gone') : words);
}

/** Nothing was generated: the old messages stand again. An edited text is in its box again. */
function putBack({ question, reply, cut, again, text, sentTo }, error, words) {
  // The conversation is gone, or somebody else's turn is running in it: show what there is.
  if (error.status === 404 || error.status === 409) {
    keepUnsent({ sentTo, text }, error);
    return openFromAddress();
  }
  thread.remove(...[question, reply].filter(Boolean));
  thread.restore(cut);
  if (text) startEdit(cut[0], text);
  const alone = () => (!text || cut[0].edited === text) && again();
  showFailure(error, words, again, { alone });
}

/** The outbox need not know any more of a message that was answered. */
function forgetSent({ text, cut, sentTo }) {
  if (text && !cut) clearOutbox(sentTo);
}

/** A message that was refused is a draft again; of one without an answer the outbox knows. */
function keepUnsent({ sentTo, text }, error) {
  if (text && error.status && !error.messageId && !readDraft(sentTo)) keepDraft(sentTo, text);
}

function noteDraft(text) {
  keepDraft(conversationId, text);
  if (!text && !running) clearOutbox(conversationId);
}

/** Put unsent text back into the box, unless something newer stands there. */
function giveBack(text, error, words) {
  const newer = composer.text.trim() && composer.text !== text;
  if (newer) return offerApart(text, error, words);
  composer.text = text;
  keepDraft(conversationId, text);
  const alone = () => composer.text === text && send(text);
  showFailure(error, words, () => send(composer.text), { alone });
}

function offerApart(text, error, words) {
  const shown = t('not_sent', { text: shortened(text) });
  const again = () => (running ? offerApart(text, error, words) : send(text));
  const discard = () => clearOutbox(conversationId);
  showFailure(error, `${words} ${shown}`, again, { more: [['discard', discard]] });
}

/** After a reload amid sending: what is known to have arrived is forgotten, the rest is offered again. */
function offerUnsent() {
  const unsent = readOutbox(conversationId);
  if (!unsent || running) return;
  const last = thread.last('user');
  if (last?.content === unsent.text && last.id > unsent.after) clearOutbox(conversationId);
  else if (!composer.text) composer.text = unsent.text;
}

async function stop() {
  if (!running) return;
  running.stopWanted = true;
  composer.setMode('stopping');
  const id = running.place.conversationId;
  // A new conversation has no id until its reply begins: the stop is sent then.
  if (!id) return;
  try {
    await api.stopTurn(id);
  } catch (error) {
    if (running) composer.setMode('generating');
    if (error.passing) showFailure(error, explain(error), stop);
  }
}

const shortened = (text) => (text.length > 80 ? `${text.slice(0, 80)}…` : text);

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

/** Show what came from elsewhere, and retry what failed because the server could not be reached. */
async function lookForNews(event) {
  // A request that began without a network may never end.
  if ((looking && event?.type !== 'online') || document.hidden || !navigator.onLine) return;
  looking = true;
  await list.refresh();
  looking = false;
  if (!list.loaded) return;
  retryFailed();
  retryToast();
  if (!currentWho()) learnWho();
}

function lookAgain() {
  list.tick();
  showTitle();
}

function listen() {
  addEventListener('hashchange', openFromAddress);
  addEventListener('pageshow', ({ persisted }) => persisted && finishDeletions(list));
  addEventListener('keydown', noteEscape);
  document.addEventListener('visibilitychange', lookForNews);
  addEventListener('focus', lookForNews);
  addEventListener('online', lookForNews);
  whenTold(lookForNews);
  setInterval(lookForNews, every);
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

async function learnWho() {
  try {
    meet(await api.whoAmI());
  } catch (error) {
    // The menu names nobody then. `explain` throws what is no Problem.
    explain(error);
  }
}

translatePage();
listen();
api.whenLocked(() => askForKey(currentWho() ? 'sign_in_again' : 'sign_in_hint'));
learnWho();
finishDeletions(list);
list.refresh().then(showTitle);
openFromAddress();
