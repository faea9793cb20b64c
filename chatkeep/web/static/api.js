/** A client of the public API, as far as the page needs it. */

import { currentLanguage } from './i18n.js';
import { Dropped, readEvents } from './sse.js';

const site = new URL(document.documentElement.dataset.root ?? './', document.baseURI);
const root = new URL('api/', site);
// The server pings every 5 s. After four missing pings the connection is considered lost.
const silence = 20_000;
let askForKey = null;
let signIns = 0;

/**
 * A problem (RFC 9457), or the `code` "unreachable" if there was no answer. A problem with a message id is the end of a
 * stored reply.
 */
export class Problem extends Error {
  constructor(body, status = 0, retryAfter = null) {
    super(body.detail || body.title || body.code || `HTTP ${status}`);
    Object.assign(this, { status, retryAfter, ...pick(body) });
  }

  /** Whether a retry may succeed. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Call `ask()` when the server requires a key, and repeat the request when it resolves. */
export const whenLocked = (ask) => (askForKey = ask);

/** Record a sign-in. An earlier request that is refused is repeated without asking again. */
export const noteSignIn = () => (signIns += 1);

/** Sign in with a key, and return the user. */
export async function signIn(key) {
  const headers = { 'Content-Type': 'application/json' };
  const response = await send('sign-in', { method: 'POST', body: JSON.stringify({ key }), headers });
  const who = await (await checked(response)).json();
  noteSignIn();
  return who;
}

/** Return the URL to sign in with an OpenID provider; `to` is where to return to. */
export const oidcAddress = (to) => new URL(`sign-in/oidc?${new URLSearchParams({ to })}`, site).href;

/** Return the page's path relative to the server's root. */
export const currentPlace = () => location.pathname.slice(site.pathname.length) + location.hash;

/** Sign out. */
export const signOut = () => call('sign-out', { method: 'POST' });

/** Return who is signed in. */
export const whoAmI = () => getJson('sign-in');

/** Return a page of unpinned conversations, newest activity first; with `q` those that match. */
export const listConversations = (after, q, signal, count = 0) =>
  getJson('conversations', { pinned: false, limit: Math.min(Math.max(30, count), 100), after, q: q || undefined }, signal);

/** Return all pinned conversations, newest activity first; with `q` those that match. */
export async function listPinned(q, signal) {
  const found = [];
  for (let more = true, after; more; ) {
    const page = await getJson('conversations', { pinned: true, limit: 100, after, q: q || undefined }, signal);
    found.push(...page.data);
    ({ has_more: more, last_id: after } = page);
  }
  return found;
}

/** Return a conversation with a page of its messages, newest first. */
export const openConversation = (id, after, signal, limit = 50) =>
  getJson(`conversations/${id}`, { order: 'desc', limit, after }, signal);

/** Change a conversation's title, pin or current branch, and return it. */
export async function changeConversation(id, changes) {
  const headers = { 'Content-Type': 'application/json' };
  return (await call(`conversations/${id}`, { method: 'PATCH', body: JSON.stringify(changes), headers })).json();
}

/** Return the API's URL of a conversation. */
export const conversationAddress = (id) => new URL(`conversations/${id}`, root).href;

/** Delete a conversation and its messages. */
export const deleteConversation = (id) => call(`conversations/${id}`, { method: 'DELETE' });

/** Return the export URL of a conversation, or of all of them without an id. */
export const exportAddress = (id, query) =>
  `${root}conversations/${id ? `${id}/export` : 'export-all'}?${new URLSearchParams(query)}`;

/** Return a conversation's share link. */
export const readShare = (id) => getJson(`conversations/${id}/share`);

/** Create a share link. Revokes an earlier one. */
export const shareConversation = async (id) => (await call(`conversations/${id}/share`, { method: 'POST' })).json();

/** Revoke a conversation's share link. */
export const stopSharing = async (id) => (await call(`conversations/${id}/share`, { method: 'DELETE' })).json();

/** Return the URL of a share link. */
export const shareAddress = (token) => new URL(`shared/${token}`, site).href;

/** Stop the running reply of a conversation. */
export const stopTurn = (id) => call(`conversations/${id}/stop`, { method: 'POST' });

/** Return a new Idempotency-Key. */
export function newKey() {
  // crypto.randomUUID is missing on plain HTTP.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// A user who asks the same again wants another answer, so the page turns off the cache.
const cache = false;

/** Send a message and yield the turn's events. */
export const takeTurn = (text, conversationId, key, signal) =>
  ask('chat', { message: text, cache, ...(conversationId && { conversation_id: conversationId }) }, key, signal);

/** Regenerate a reply as a new sibling, and yield its events. */
export const regenerateReply = (conversationId, messageId, key, signal) =>
  ask(`conversations/${conversationId}/messages/${messageId}/regenerate`, {}, key, signal);

/** Edit a user message as a new sibling, and yield the events of the reply. */
export const editMessage = (conversationId, messageId, text, key, signal) =>
  ask(`conversations/${conversationId}/messages/${messageId}/edit`, { message: text, cache }, key, signal);

/** Yield the events of a reply after a number of characters. */
export async function* followTurn(conversationId, messageId, characters, signal) {
  const path = `conversations/${conversationId}/messages/${messageId}/stream`;
  const headers = { Accept: 'text/event-stream' };
  yield* streamed(await call(path, { query: { after: characters }, headers, signal }));
}

async function* ask(path, body, key, signal) {
  const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': key };
  const options = { method: 'POST', body: JSON.stringify({ ...body, stream: true }), headers, signal };
  yield* streamed(await call(path, options));
}

async function* streamed(response) {
  try {
    yield* readEvents(response.body, silence);
  } catch (error) {
    throw error instanceof Dropped ? new Problem({ code: 'unreachable' }) : error;
  }
}

/** Return the JSON answer of the API. */
export async function getJson(path, query, signal) {
  return (await call(path, { query, signal })).json();
}

async function call(path, options) {
  for (;;) {
    const before = signIns;
    const response = await send(path, options);
    if (response.status !== 401 || !askForKey) return checked(response);
    if (before === signIns) await askForKey();
  }
}

async function send(path, { query = {}, ...options }) {
  const url = new URL(path, root);
  for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
  try {
    // Problems in the page's language, whatever the browser's is.
    const headers = { 'Accept-Language': currentLanguage(), ...options.headers };
    return await fetch(url, { cache: 'no-store', ...options, headers });
  } catch (error) {
    throw error.name === 'AbortError' ? error : new Problem({ code: 'unreachable' });
  }
}

async function checked(response) {
  if (!response.ok) throw await problemOf(response);
  return response;
}

// A proxy may answer with its own page. Then only the status is known.
async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  const seconds = Number.parseInt(response.headers.get('Retry-After'), 10);
  return new Problem(body, response.status, Number.isNaN(seconds) ? null : seconds);
}

function pick({ code = 'http_error', title = '', detail = '', errors = [], ...ids }) {
  return { code, title, detail, errors, conversationId: ids.conversation_id, messageId: ids.message_id };
}
