/** What keys mean. */

const mac = /^(Mac|iP)/.test(navigator.platform);

/** Whether a key belongs to an input method that composes; Safari tells the last one by its code alone. */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** Whether the key for commands is held, alone or with Shift: Cmd on a Mac, Ctrl elsewhere. */
export const isCommand = ({ ctrlKey, metaKey, altKey }) => !altKey && metaKey === mac && ctrlKey === !mac;

/** Return the letter of a key; on a keyboard of another script its place tells which one that is. */
export function keyOf({ key, code }) {
  const latin = key.charCodeAt(0) < 128;
  return (latin ? key : code.replace(/^Key/, '').replace('Slash', '/')).toLowerCase();
}

/** Return the names of keys that are pressed together, as this system writes them. */
export const keyNames = (keys) => keys.map((key) => (mac && { Ctrl: '⌘', Shift: '⇧' }[key]) || key);
