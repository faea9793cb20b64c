/** Where a text holds what the reader searches for. */

import { openConversation } from './api.js';
import { el } from './dom.js';

const before = 24;
const after = 60;
const pages = 5;

function placeIn(text, query) {
  const literal = query.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
  const found = new RegExp(literal, 'iu').exec(text);
  return found && { start: found.index, end: found.index + found[0].length };
}

/** Whether a text holds the query, in any case of letters. */
export const holds = (text, query) => placeIn(text, query) !== null;

/** Return a text as nodes, with what was found marked. */
export function marked(text, query) {
  const place = query && placeIn(text, query);
  if (!place) return [text];
  return [text.slice(0, place.start), el('mark', '', text.slice(place.start, place.end)), text.slice(place.end)];
}

/** Return the part of a conversation's newest messages that holds the query, or nothing. */
export async function findExcerpt(id, query, signal) {
  for (let page = 0, last; page < pages; page += 1) {
    const { messages } = await openConversation(id, last, signal);
    const found = messages.data.find(({ content }) => holds(content, query));
    if (found) return cut(found.content, query);
    if (!messages.has_more) return '';
    last = messages.last_id;
  }
  return '';
}

function cut(text, query) {
  const { start, end } = placeIn(text, query);
  // It begins with a whole word, where there are words.
  const lead = start > before ? `…${text.slice(start - before, start).replace(/^\S*\s+/, '')}` : text.slice(0, start);
  const rest = end + after < text.length ? '…' : '';
  return `${lead}${text.slice(start, end + after)}${rest}`.replace(/\s+/g, ' ');
}
