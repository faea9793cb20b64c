/** Interpret keyboard events. */

const mac = /^(Mac|iP)/.test(navigator.platform);

/** Whether a key belongs to a composition by an input method. Safari marks the last one only by its code. */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** Whether the command key is held, alone or with Shift: Cmd on a Mac, Ctrl elsewhere. */
export const isCommand = ({ ctrlKey, metaKey, altKey }) => !altKey && metaKey === mac && ctrlKey === !mac;

/** Return the letter of a key; on a non-Latin keyboard, the letter at its position. */
export function keyOf({ key, code }) {
  const latin = key.charCodeAt(0) < 128;
  return (latin ? key : code.replace(/^Key/, '').replace('Slash', '/')).toLowerCase();
}

/** Return the names of a key combination on this system. */
export const keyNames = (keys) => keys.map((key) => (mac && { Ctrl: '⌘', Shift: '⇧' }[key]) || key);
