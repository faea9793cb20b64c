/** Edit a sent message in place. */

import { button, el } from './dom.js';
import { fit, onEnter } from './enter.js';
import { label, say } from './i18n.js';
import { isComposing } from './keys.js';

/** Return a form with a text box that calls `send(text)` or `cancel()`. */
export function editor(text, { send, cancel }) {
  const box = label(el('textarea'), 'edit_message');
  const act = () => box.value.trim() && send(box.value);
  Object.assign(box, { value: text, dir: 'auto', rows: 1 });
  box.addEventListener('input', () => fit(box));
  onEnter(box, act);
  const buttons = [say(button('link', cancel), 'cancel'), say(button('primary', act), 'send')];
  const form = el('div', 'editor', box, el('div', 'actions', ...buttons));
  form.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || isComposing(event)) return;
    event.stopPropagation();
    cancel();
  });
  return form;
}

/** Put the cursor at the end of the text of a visible form. */
export function focusEditor(form) {
  const box = form.querySelector('textarea');
  fit(box);
  box.focus();
  box.setSelectionRange(box.value.length, box.value.length);
}
