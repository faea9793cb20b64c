/** The chat page: what is open, what is running, and how the parts of the page play together. */

import * as api from './api.js';
import './banner.js';
import { Composer } from './composer.js';
import { confirmDelete } from './confirm.js';
import { byId } from './dom.js';
import { clearOutbox, fillOutbox, keepDraft, readDraft, readOutbox } from './drafts.js';
import { closeDrawer } from './drawer.js';
import { switchLanguage, t, translatePage } from './i18n.js';
import { ConversationList } from './list.js';
import { hideNotice, showNotice } from './notice.js';
import { explain } from './problems.js';
import { EndFollower } from './scroll.js';
import { Thread } from './thread.js';
import { readTurn } from './turn.js';

const list = new ConversationList({ remove });
const thread = new Thread({ retry: regenerate, showEarlier });
const composer = new Composer({ send, stop, changed: noteDraft });
const scroll = new EndFollower(byId('scroller'), byId('content'), byId('to-end'));

let conversationId = null;
let running = null;
let visit = new AbortController();

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
  composer.setMode('idle');
}

function select(id) {
  conversationId = id;
  list.select(id);
  showTitle();
}

function showTitle() {
  const title = list.find(conversationId)?.title || (conversationId ? 'chatkeep' : t('new_conversation'));
  byId('title').textContent = title;
  document.title = conversationId ? `${title} – chatkeep` : 'chatkeep';
}

async function load(id, signal) {
  thread.showLoading();
  try {
    const { messages } = await api.openConversation(id, undefined, signal);
    thread.show(messages);
    scroll.goToEnd();
    followLast();
  } catch (error) {
    if (error.name === 'AbortError') return;
    thread.clear();
    if (error.status === 404) forgetGone(id);
    else showNotice(`${t('open_failed')} ${explain(error)}`, ['try_again', openFromAddress]);
  }
}

/** The conversation is deleted or has expired: what was being written moves on to a new one. */
function forgetGone(id) {
  keepDraft(null, readDraft(null) || composer.text);
  keepDraft(id, '');
  list.forget(id);
  history.replaceState(null, '', '#');
  openFromAddress();
  showNotice(t('gone'), ['close', () => {}]);
}

async function showEarlier() {
  const { signal } = visit;
  try {
    const { messages } = await api.openConversation(conversationId, thread.oldest, signal);
    scroll.holdStill(() => thread.prepend(messages));
  } catch (error) {
    if (error.name !== 'AbortError') showNotice(explain(error), ['try_again', showEarlier]);
  }
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

/** Have an unhappy reply generated anew; the new one takes its place. */
function regenerate(old) {
  if (running || thread.loading) return;
  hideNotice();
  composer.focus();
  // The same key where no answer came before: a retry cannot make two replies.
  old.key ??= api.newKey();
  const reply = thread.view({ role: 'assistant', status: 'generating' });
  const place = { conversationId, messageId: null, characters: 0 };
  thread.replace(old, reply);
  scroll.goToEnd();
  run({ reply, old, place, visit }, api.regenerateReply(conversationId, old.id, old.key, visit.signal));
}

async function run(turn, first) {
  running = turn;
  composer.setMode('generating');
  try {
    for await (const event of readTurn(turn.place, turn.visit.signal, first)) show(turn, event);
  } catch (error) {
    if (error.name === 'AbortError') return;
    fail(turn, error);
  }
  list.refresh().then(showTitle);
  if (running !== turn) return;
  running = null;
  composer.setMode('idle');
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
  clearOutbox(turn.sentTo);
  turn.visit.abort();
  // Nobody is left to be told that the stop did not arrive.
  if (turn.stopWanted) api.stopTurn(id).catch(() => {});
  list.refresh();
  // Somebody who is back already is shown what has arrived.
  if (conversationId === turn.sentTo && !running) openFromAddress();
}

function begin(turn, { conversation_id: id, message_id: messageId, model }) {
  turn.reply.id = messageId;
  turn.reply.settle({ status: 'generating', model });
  // Whoever stands at the first character is sent the reasoning as a whole.
  if (!turn.place.characters) turn.reply.forgetReasoning();
  if (!turn.begun) announce('reply_begins');
  turn.begun = true;
  if (turn.text) clearOutbox(turn.sentTo);
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
}

function grow(reply, { text, reasoning }) {
  if (reasoning) reply.addReasoning(reasoning);
  if (text) reply.addText(text);
}

function end(reply, { status, model }) {
  reply.settle({ status, model });
  announce(status === 'completed' ? 'reply_ended' : `status_${status}`);
}

function breakOff(reply, problem) {
  const interrupted = problem.code === 'reply_interrupted';
  const status = interrupted ? 'interrupted' : reply.content ? 'truncated' : 'failed';
  reply.settle({ status, error: interrupted ? '' : explain(problem) });
  announce(`status_${status}`);
}

/** A turn that was stored shows how it failed; one that was not gives its text back. */
function fail(turn, error) {
  const words = explain(error);
  if (error.status && turn.text) clearOutbox(turn.sentTo);
  if (turn.left) keepUnsent(turn, error);
  else if (error.messageId) failStored(turn, error);
  else if (turn.text && !turn.begun) takeBack(turn, error, words);
  else if (turn.old && !turn.begun) putBack(turn, error, words);
  else loseSight(turn, words);
}

function failStored(turn, error) {
  turn.reply.id = error.messageId;
  breakOff(turn.reply, error);
  if (!conversationId) adopt(error.conversationId);
}

/** The reply goes on at the server, but cannot be followed. */
function loseSight(turn, words) {
  turn.reply.remark(null);
  showNotice(words, ['try_again', openFromAddress]);
}

async function takeBack(turn, error, words) {
  thread.remove(turn.question, turn.reply);
  if (error.status === 404) forgetGone(conversationId);
  // Somebody else's turn is running in this conversation: show it.
  if (error.status === 409) await openFromAddress();
  giveBack(turn.text, error.status === 404 ? t('gone') : words);
}

/** Nothing was generated anew: the old reply stands again. */
function putBack({ reply, old }, error, words) {
  // The conversation is gone, or somebody else's turn is running in it: show what there is.
  if (error.status === 404 || error.status === 409) return openFromAddress();
  thread.replace(reply, old);
  showNotice(words, ['try_again', () => regenerate(old)]);
}

/** A message that was refused is a draft again; of one without an answer the outbox knows. */
function keepUnsent({ sentTo, text }, error) {
  if (error.status && !error.messageId && !readDraft(sentTo)) keepDraft(sentTo, text);
}

function noteDraft(text) {
  keepDraft(conversationId, text);
  if (!text && !running) clearOutbox(conversationId);
}

/** Put unsent text back into the box, unless something newer stands there. */
function giveBack(text, words) {
  const newer = composer.text.trim() && composer.text !== text;
  if (newer) return offerApart(text, words);
  composer.text = text;
  keepDraft(conversationId, text);
  showNotice(words, ['try_again', () => send(composer.text)]);
}

function offerApart(text, words) {
  const shown = t('not_sent', { text: shortened(text) });
  const again = () => (running ? offerApart(text, words) : send(text));
  const discard = () => clearOutbox(conversationId);
  showNotice(`${words} ${shown}`, ['try_again', again], ['discard', discard]);
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
    if (error.passing) showNotice(explain(error), ['try_again', stop]);
  }
}

async function remove(conversation) {
  if (!(await confirmDelete(conversation.title || t('untitled')))) return;
  try {
    await api.deleteConversation(conversation.id);
  } catch (error) {
    if (error.status !== 404) return showNotice(explain(error), ['try_again', () => remove(conversation)]);
  }
  keepDraft(conversation.id, '');
  list.forget(conversation.id);
  if (conversation.id === conversationId) location.hash = '';
}

function announce(name) {
  byId('announcer').textContent = t(name);
}

const shortened = (text) => (text.length > 80 ? `${text.slice(0, 80)}…` : text);

function noteEscape(event) {
  const free = !event.isComposing && event.keyCode !== 229 && !document.querySelector('dialog[open], #side.open');
  if (event.key === 'Escape' && free && running && composer.mode === 'generating') stop();
}

function listen() {
  addEventListener('hashchange', openFromAddress);
  addEventListener('keydown', noteEscape);
  document.addEventListener('visibilitychange', () => document.hidden || list.refresh());
  byId('new').addEventListener('click', () => conversationId || openFromAddress());
  byId('language').addEventListener('click', () => {
    switchLanguage();
    list.render();
    showTitle();
  });
  byId('conversations').addEventListener('click', (event) => event.target.closest('a') && closeDrawer());
}

translatePage();
listen();
list.refresh().then(showTitle);
openFromAddress();
