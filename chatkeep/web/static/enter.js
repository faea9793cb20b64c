/** The Enter key in a box where text is written. */

import { direct, directPasted } from './direction.js';
import { isComposing } from './keys.js';

/** Whether fingers write here: then Enter breaks the line. */
export const touch = matchMedia('(hover: none) and (pointer: coarse)');

/** Have Enter call `act`; with Shift, on touch, and while an input method composes, it is left alone. */
export function onEnter(box, act) {
  let composed = false;
  directPasted(box);
  box.enterKeyHint = touch.matches ? 'enter' : 'send';
  box.addEventListener('keyup', () => (composed = false));
  // In Safari the Enter that ends a composition comes after it: leave the key alone until it is up.
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

/** Make a box as high as its text. */
export function fit(box) {
  direct(box);
  box.style.height = 'auto';
  box.style.height = `${box.scrollHeight}px`;
}
