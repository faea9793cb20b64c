/** The buttons below a message. */

import { copyFrom } from './copy.js';
import { button, el, icon } from './dom.js';
import { label } from './i18n.js';

/** Return the buttons of a message. `acts` has `regenerate`, `edit` and `turnTo` another sibling. */
export function toolsOf(view, acts) {
  const row = el('div', 'tools', ...siblings(view, acts));
  if (view.content) row.append(tool('copy', 'copy', (event) => copyFrom(event.currentTarget, view.content)));
  // A message without an id may not be stored.
  if (view.id && view.role === 'user') row.append(changing(tool('edit', 'rename', () => acts.edit(view))));
  if (view.id && view.role === 'assistant') row.append(changing(tool('regenerate', 'again', () => acts.regenerate(view))));
  return row;
}

function siblings({ id, siblings: ids }, { turnTo }) {
  if (!ids || ids.length < 2) return [];
  const at = ids.indexOf(id);
  const count = el('span', 'count', `${at + 1}/${ids.length}`);
  return [changing(el('div', 'siblings', turn('previous', 'left', ids[at - 1], turnTo), count, turn('next', 'right', ids[at + 1], turnTo)))];
}

function turn(name, image, id, turnTo) {
  const node = tool(name, image, () => turnTo(id, name));
  node.disabled = !id;
  return node;
}

const tool = (name, image, act) => label(button(`tool ${name}`, act, icon(image)), name);

// These don't work while a reply is generated.
function changing(node) {
  node.classList.add('changing');
  return node;
}
