/** Typeset formulas with KaTeX, which is loaded on first use, and copy them as their source. */

import { el } from './dom.js';
import { isDisplayed, texOf } from './formulas.js';
import { importLibrary } from './libraries.js';

// Limits of a formula: macro expansions, and lengths in em.
const limits = { maxExpand: 1000, maxSize: 40 };
// Milliseconds until the page yields, and until a text is shown without KaTeX.
const slice = 8;
const patience = 2000;
const unset = '.formula:not(.set)';
let loading = null;
let turn = Promise.resolve();

/** Typeset the formulas among nodes and inside of them, one by one. Return whether there are any. */
export function typeset(nodes) {
  const found = nodes.flatMap((node) => (node.matches?.(unset) ? [node] : [...(node.querySelectorAll?.(unset) ?? [])]));
  if (found.length) turn = turn.then(() => setAll(found));
  return found.length > 0;
}

/** Resolves when all formulas are typeset, or after a time limit. */
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
    // Focusable, so that keys scroll a wide formula.
    if (isDisplayed(source)) node.tabIndex = 0;
  } catch {
    // A formula that KaTeX rejects stays source text.
  }
}

// Formulas with links, pictures, ids or styles are rejected.
function refuse({ command }) {
  throw new Error(command);
}

// The page's CSP allows styles set by scripts, but not in markup.
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

/** Copy the selection, with formulas as their source. */
function copy(event) {
  const selection = getSelection();
  if (selection.isCollapsed || event.target.closest?.('input, textarea')) return;
  const copied = el('div', 'copied', wholeFormulas(selection.getRangeAt(0)).cloneContents());
  const formulas = copied.querySelectorAll('.formula');
  if (!formulas.length) return;
  for (const node of formulas) node.replaceWith(el('span', 'source', node.dataset.source));
  // Only laid-out text has line breaks.
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
// Retry a failed load when the network is back.
addEventListener('online', () => typeset([document.body]));
