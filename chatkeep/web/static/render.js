/** Render Markdown to safe nodes. */

import { codeFigure } from './code.js';
import { el, icon } from './dom.js';
import { extension, isDisplayed } from './formulas.js';
import { newParser, sanitised } from './libraries.js';

// The only HTML elements that are not shown as text, without attributes: Markdown has no syntax for them.
const markup = /^<\/?(?:br|del|ins|kbd|mark|sub|sup) *\/?>/i;
const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escaped = (text) => text.replace(/[&<>"']/g, (sign) => escapes[sign]);
const directed = 'blockquote, h3, h4, h5, h6, li, p, td, th';
let parser = null;

const renderer = {
  // The message has its own heading, so headings in its text are lower.
  heading({ tokens, depth }) {
    const level = Math.min(depth + 2, 6);
    return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
  },
  // Loading an external picture would reveal the reader to its server, so it is loaded only by a click.
  image({ href, text }) {
    return `<a class="picture" href="${escaped(href)}">${escaped(text)}</a>`;
  },
  checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
};
const tokenizer = {
  // A link definition would be invisible, and may come long after the text that it changes.
  def: () => undefined,
  html: () => undefined,
  tag(text) {
    const raw = markup.exec(text)?.[0];
    return raw && { type: 'html', raw, text: raw, block: false };
  },
};

const formulas = extension({
  // Its text is its source until it is typeset.
  show: (source) => `<span class="formula">${escaped(source)}</span>`,
  showOpen: (text) => `<p class="plain">${escaped(text)}</p>\n`,
});

/**
 * Return the blocks of a text as marked's tokens, whose `raw` joined is the text. More may be added to a text that is
 * `growing`.
 */
export function blocksOf(text, { growing = false } = {}) {
  parser ??= newParser({ gfm: true, breaks: true, renderer, tokenizer, ...formulas });
  try {
    return parser.lexer(text, { ...parser.defaults, growing });
  } catch (error) {
    console.warn('This is nested too deeply for the parser and stays as it is written.', error);
    return [{ type: 'plain', raw: text }];
  }
}

/** Return blocks as elements. */
export function render(blocks) {
  if (blocks.some(({ type }) => type === 'plain')) return blocks.map(({ raw }) => plain(raw));
  try {
    const fragment = sanitised(parser.parser(blocks));
    furnish(fragment);
    return [...fragment.children];
  } catch (error) {
    console.warn('This text stays as it is written.', error);
    return blocks.map(({ raw }) => plain(raw));
  }
}

function plain(text) {
  const node = el('p', 'plain', text);
  node.dir = 'auto';
  return node;
}

function furnish(fragment) {
  for (const formula of fragment.querySelectorAll('.formula')) furnishFormula(formula);
  for (const link of fragment.querySelectorAll('a')) furnishLink(link);
  for (const code of fragment.querySelectorAll('pre > code')) code.parentElement.replaceWith(figureOf(code));
  for (const item of fragment.querySelectorAll('li')) if (/^[☑☐] /.test(item.textContent)) item.className = 'task';
  for (const table of fragment.querySelectorAll('table')) frame(table);
  for (const node of fragment.querySelectorAll(directed)) node.dir = 'auto';
  for (const node of fragment.children) if (node.querySelector('.formula')) node.classList.add('with-formulas');
}

function furnishLink(link) {
  const picture = link.className === 'picture';
  const address = addressOf(link.getAttribute('href'));
  if (!address) return link.replaceWith(...link.childNodes);
  const { host, href } = address;
  Object.assign(link, { target: '_blank', rel: 'noopener noreferrer', title: href });
  if (picture) link.replaceChildren(icon('picture'), [link.textContent, host].filter(Boolean).join(' · '));
  else link.removeAttribute('class');
}

// Many browsers lack URL.parse and URL.canParse.
function addressOf(href) {
  try {
    return new URL(href);
  } catch {
    return null;
  }
}

// Its direction is independent of the text around it.
function furnishFormula(node) {
  const source = node.textContent;
  Object.assign(node.dataset, { source });
  node.dir = 'ltr';
  if (isDisplayed(source)) node.classList.add('display');
}

function figureOf(code) {
  const language = /^language-(\S+)/.exec(code.className)?.[1] ?? '';
  // marked adds a line break to the end of a block's text.
  return codeFigure(el('code', '', code.textContent.replace(/\n$/, '')), language);
}

// Focusable, so that keys scroll a wide table.
function frame(table) {
  const node = el('div', 'table');
  node.tabIndex = 0;
  table.replaceWith(node);
  node.append(table);
}
