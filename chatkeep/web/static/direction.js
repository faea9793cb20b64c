/** The text direction of an input box. */

// With dir="auto", each key press in a megabyte of text takes Chromium seconds.
const long = 20_000;
const letter = /\p{L}/u;
const rightToLeft = /[\p{Script=Adlam}\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Nko}\p{Script=Syriac}\p{Script=Thaana}]/u;

/** Set the direction of a box for its future `text`. */
export function direct(box, text = box.value) {
  box.dir = text.length < long ? 'auto' : rightToLeft.test(letter.exec(text)?.[0]) ? 'rtl' : 'ltr';
}

/** Set the direction of pasted text before it is laid out. */
export function directPasted(box) {
  box.addEventListener('beforeinput', ({ data }) => data?.length >= long && direct(box, data));
}
