/** Find and mark search terms in texts. */

import { openConversation } from './api.js';
import { el } from './dom.js';

const before = 24;
const after = 60;
const pages = 5;

const wordsOf = (query) => query.match(/\S+/g) ?? [query];

/** Return where a text has the query as a phrase, or else its longest matching word. */
function placeIn(text, query) {
  const words = wordsOf(query).map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'));
  for (const literal of [words.join('\\s+'), ...[...words].sort((one, other) => other.length - one.length)]) {
    const found = new RegExp(literal, 'iu').exec(text);
    if (found) return { start: found.index, end: found.index + found[0].length };
  }
  return null;
}

/** Whether a text contains every word of the query, ignoring case. */
export const holds = (text, query) => wordsOf(query).every((word) => placeIn(text, word));

/** Return a text as nodes with the matches marked. */
export function marked(text, query) {
  const place = query && placeIn(text, query);
  if (!place) return [text];
  return [text.slice(0, place.start), el('mark', '', text.slice(place.start, place.end)), text.slice(place.end)];
}

/** Return an excerpt of a conversation's newest messages with the query's words, or one of them, or nothing. */
export async function findExcerpt(id, query, signal) {
  for (let page = 0, last; page < pages; page += 1) {
    const { messages } = await openConversation(id, last, signal);
    const { data } = messages;
    const found = data.find(({ content }) => holds(content, query)) ?? data.find(({ content }) => placeIn(content, query));
    if (found) return cut(found.content, query);
    if (!messages.has_more) return '';
    last = messages.last_id;
  }
  return '';
}

function cut(text, query) {
  const { start, end } = placeIn(text, query);
  // Begin with a whole word if there are words.
  const lead = start > before ? `…${text.slice(start - before, start).replace(/^\S*\s+/, '')}` : text.slice(0, start);
  const rest = end + after < text.length ? '…' : '';
  return `${lead}${text.slice(start, end + after)}${rest}`.replace(/\s+/g, ' ');
}
