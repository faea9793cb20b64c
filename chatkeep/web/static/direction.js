/** The direction of the text in a box where people write. */

// With "auto", each key in a text of a megabyte costs Chromium seconds.
const long = 20_000;
const letter = /\p{L}/u;
const rightToLeft = /[\p{Script=Adlam}\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Nko}\p{Script=Syriac}\p{Script=Thaana}]/u;

/** Let a text begin on the side where it is read from; `text` is what will stand in the box. */
export function direct(box, text = box.value) {
  box.dir = text.length < long ? 'auto' : rightToLeft.test(letter.exec(text)?.[0]) ? 'rtl' : 'ltr';
}

/** Do so for what is pasted before it is laid out. */
export function directPasted(box) {
  box.addEventListener('beforeinput', ({ data }) => data?.length >= long && direct(box, data));
}
