/** Read a running reply to its end. A dropped connection is resumed where the text stopped. */

import { followTurn, Problem } from './api.js';

const waits = [500, 1000, 2000, 4000, 8000, 8000, 8000, 8000];

/**
 * Yield the events of a turn until "done" or "error", and `{type: "waiting"}` when the connection is lost. `place` is
 * the position `{conversationId, messageId, characters}`, which is updated. `first` are the events of the request that
 * began the turn; without them the reply is followed from `place`.
 */
export async function* readTurn(place, signal, first = null) {
  let events = first ?? follow(place, signal);
  for (let tries = 0; ; tries += 1) {
    try {
      for await (const event of events) {
        if (lostKey(event)) break;
        if (event.type === 'delta') tries = 0;
        note(place, event);
        yield event;
        if (event.type === 'done' || event.type === 'error') return;
      }
    } catch (problem) {
      if (!(problem instanceof Problem) || !problem.passing || !place.messageId) throw problem;
    }
    if (!place.messageId || tries >= waits.length) throw new Problem({ code: 'unreachable' });
    yield { type: 'waiting' };
    await pause(waits[tries], signal);
    events = follow(place, signal);
  }
}

// The key has expired, not the reply. Following it asks for another key.
const lostKey = ({ type, data }) => type === 'error' && data.code === 'unauthorized';

const follow = ({ conversationId, messageId, characters }, signal) =>
  followTurn(conversationId, messageId, characters, signal);

function note(place, { type, id, data }) {
  if (type === 'start') Object.assign(place, { conversationId: data.conversation_id, messageId: data.message_id });
  if (type === 'delta' && data.text) place.characters = Number(id) || place.characters + Array.from(data.text).length;
}

// Going online ends the wait; leaving the conversation ends it with an AbortError.
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    addEventListener('online', resolve, { once: true, signal });
    signal.addEventListener('abort', () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
