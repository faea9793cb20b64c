/** Edit titles in place. */

import { el } from './dom.js';
import { label } from './i18n.js';
import { isComposing } from './keys.js';

const longest = 255;

/** Let the user edit a title in place of a node. Resolves to the new title, or null if it is unchanged. */
export function editTitle(node, title) {
  const box = label(el('input', 'rename'), 'new_title');
  Object.assign(box, { value: title, maxLength: longest, dir: 'auto', enterKeyHint: 'done' });
  const ended = new Promise((resolve) => listen(box, resolve));
  node.replaceWith(box);
  box.focus();
  box.select();
  return ended.then(({ kept, byKey }) => {
    box.replaceWith(node);
    if (byKey) (node.matches('a') ? node : node.parentElement.querySelector('button[aria-haspopup]'))?.focus();
    const text = box.value.trim();
    return kept && text && text !== title ? text : null;
  });
}

function listen(box, end) {
  box.addEventListener('blur', () => end({ kept: true }));
  box.addEventListener('keydown', (event) => {
    if (isComposing(event)) return;
    // Enter and Escape must not close anything else or stop a reply.
    event.stopPropagation();
    if (event.key === 'Enter' || event.key === 'Escape') end({ kept: event.key === 'Enter', byKey: true });
  });
}
