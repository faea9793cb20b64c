/** The Enter key in a text box. */

import { direct, directPasted } from './direction.js';
import { isComposing } from './keys.js';

/** Whether this is a touch device, where Enter breaks the line. */
export const touch = matchMedia('(hover: none) and (pointer: coarse)');

/** Call `act` on Enter, but not with Shift, on touch devices, or during composition by an input method. */
export function onEnter(box, act) {
  let composed = false;
  directPasted(box);
  box.enterKeyHint = touch.matches ? 'enter' : 'send';
  box.addEventListener('keyup', () => (composed = false));
  // In Safari the Enter that ends a composition comes after it, so ignore the key until it is released.
  box.addEventListener('compositionend', () => {
    composed = true;
    setTimeout(() => (composed = false), 300);
  });
  box.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.altKey || touch.matches) return;
    if (isComposing(event) || composed) return;
    event.preventDefault();
    if (!event.repeat) act();
  });
}

/** Resize a box to the height of its text. */
export function fit(box) {
  direct(box);
  box.style.height = 'auto';
  box.style.height = `${box.scrollHeight}px`;
}
