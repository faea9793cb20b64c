/** Formulas, set by KaTeX, which is loaded when the first one shows, and copied as they were written. */

import { el } from './dom.js';
import { isDisplayed, texOf } from './formulas.js';
import { importLibrary } from './libraries.js';

// What a formula may cost: TeX's macros expanded, and lengths in em.
const limits = { maxExpand: 1000, maxSize: 40 };
// Milliseconds until the page does something else, and until a text is shown without KaTeX.
const slice = 8;
const patience = 2000;
const unset = '.formula:not(.set)';
let loading = null;
let turn = Promise.resolve();

/** Set the formulas that nodes are or hold, one after the other; return whether there are any. */
export function typeset(nodes) {
  const found = nodes.flatMap((node) => (node.matches?.(unset) ? [node] : [...(node.querySelectorAll?.(unset) ?? [])]));
  if (found.length) turn = turn.then(() => setAll(found));
  return found.length > 0;
}

/** Resolves when all formulas are set, or when that takes too long. */
export const whenSet = () => Promise.race([turn, pause(patience)]);

async function setAll(nodes) {
  const katex = await load();
  let began = performance.now();
  for (const node of katex ? nodes : []) {
    if (node.parentNode && node.matches(unset)) set(katex, node);
    if (performance.now() - began < slice) continue;
    await pause();
    began = performance.now();
  }
}

function set(katex, node) {
  const { source } = node.dataset;
  node.classList.add('set');
  try {
    const options = { ...limits, displayMode: isDisplayed(source), strict: 'ignore', trust: refuse };
    node.replaceChildren(styled(katex.renderToString(texOf(source), options)));
    // What is too wide is scrolled by keys as well.
    if (isDisplayed(source)) node.tabIndex = 0;
  } catch {
    // What KaTeX does not understand stays as it is written.
  }
}

// Links, pictures, ids and styles: a formula that asks for them is none.
function refuse({ command }) {
  throw new Error(command);
}

// The page's policy allows styles that scripts set, and none in markup.
function styled(html) {
  const template = document.createElement('template');
  template.innerHTML = html.replaceAll(' style="', ' data-style="');
  for (const node of template.content.querySelectorAll('[data-style]')) {
    node.style.cssText = node.dataset.style;
    delete node.dataset.style;
  }
  return template.content;
}

function load() {
  loading ??= Promise.all([importLibrary('katex/katex.js'), loadStyle()]).then(
    () => globalThis.katex,
    (error) => {
      console.warn('Formulas stay as they are written.', error);
      loading = null;
    },
  );
  return loading;
}

function loadStyle() {
  const link = el('link');
  link.rel = 'stylesheet';
  link.href = new URL('vendor/katex/katex.css', import.meta.url);
  document.head.append(link);
  return new Promise((resolve, reject) => Object.assign(link, { onload: resolve, onerror: reject }));
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Put what is selected on the clipboard, with formulas as they were written. */
function copy(event) {
  const selection = getSelection();
  if (selection.isCollapsed || event.target.closest?.('input, textarea')) return;
  const copied = el('div', 'copied', wholeFormulas(selection.getRangeAt(0)).cloneContents());
  const formulas = copied.querySelectorAll('.formula');
  if (!formulas.length) return;
  for (const node of formulas) node.replaceWith(el('span', 'source', node.dataset.source));
  // Only what is laid out knows its line breaks.
  document.body.append(copied);
  event.clipboardData.setData('text/plain', copied.innerText);
  event.clipboardData.setData('text/html', copied.innerHTML);
  copied.remove();
  event.preventDefault();
}

function wholeFormulas(selected) {
  const range = selected.cloneRange();
  const [start, end] = [range.startContainer, range.endContainer].map(formulaAround);
  if (start) range.setStartBefore(start);
  if (end) range.setEndAfter(end);
  return range;
}

const formulaAround = (node) => (node.closest ? node : node.parentElement).closest('.formula');

document.addEventListener('copy', copy);
// What could not be loaded is, once there is a network.
addEventListener('online', () => typeset([document.body]));
