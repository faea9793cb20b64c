/** Render streamed Markdown: only the last block is parsed again, earlier nodes are never changed. */

import { colour } from './code.js';
import { el } from './dom.js';
import { cuttable } from './formulas.js';
import { morph } from './morph.js';
import { blocksOf, render } from './render.js';
import { typeset, whenSet } from './typeset.js';

// A longer block is split, so that little is parsed again.
const long = 4000;
const piece = 4000;
// Milliseconds of each frame, and between two frames if there is no backlog.
const budget = 8;
const apart = 30;
// A line that is still ambiguous: a "-" after text may begin a list, and is not a heading yet.
const unsure = /(^|\n)(?: {0,3}(?:-+|=+|#+|[*+]|\d{1,9}[.)]?|`{1,2}|~{1,2}) *)$/;
// The next character decides whether this ends a formula.
const unsureFormula = /(?:(?<!\$)\$+|\\[\])]?)$/;
const waiting = [];
let working = false;
let drawn = 0;

/** Renders Markdown into `root`, piece by piece. Needs the libraries. */
export class MarkdownText {
  constructor(root) {
    Object.assign(this, { root, parent: root, live: [], goesOn: false, source: '', queue: '', ended: false, formulas: false });
  }

  /** Add a piece of text, to be shown in the next frame. */
  append(text) {
    this.queue += text;
    schedule(this);
  }

  /** End the text. Resolves when all of it is shown. */
  end() {
    this.ended = true;
    schedule(this);
    return new Promise((resolve) => (this.done = resolve));
  }

  /** Show some of the pending text. Return whether more is pending. */
  step() {
    const taken = this.queue.slice(0, piece);
    this.queue = this.queue.slice(piece);
    this.source = (this.source + taken).replaceAll('\r\n', '\n');
    this.show();
    if (this.queue) return true;
    if (this.ended) this.finish();
    return false;
  }

  show() {
    const growing = !this.ended || this.queue !== '';
    const sure = growing ? this.source.replace(unsureFormula, '').replace(unsure, '$1') : this.source;
    const blocks = blocksOf(sure, { growing });
    const last = blocks.findLastIndex(({ type }) => type !== 'space');
    if (last < 0) return;
    if (last > 0) this.freeze(blocks.slice(0, last));
    this.draw([blocks[last]]);
    if (blocks[last].raw.length > long) this.cut(blocks[last]);
  }

  /** Finish complete blocks: remove them from the source, and never change them again. */
  freeze(blocks) {
    this.draw(blocks);
    this.source = this.source.slice(lengthOf(blocks));
    this.settle();
  }

  settle() {
    for (const node of this.live) if (node.nodeType === Node.ELEMENT_NODE) colour(node);
    Object.assign(this, { live: [], parent: this.root, goesOn: false });
  }

  draw(blocks) {
    const nodes = render(blocks);
    if (!nodes.length) return;
    if (this.parent !== this.root) this.drawRest(nodes);
    if (this.goesOn) nodes[0].classList.add('goes-on');
    if (nodes.length) this.put(this.root, nodes);
  }

  /** Continue a split block with the first node. */
  drawRest(nodes) {
    const inner = insideOf(nodes.shift());
    this.put(this.parent, [...inner.childNodes]);
    if (nodes.length) this.settle();
  }

  put(parent, nodes) {
    this.live = morph(parent, this.live, nodes);
    if (!typeset(this.live)) return;
    this.formulas = true;
    // Nodes put into a split block belong to that block.
    parent.closest('.body > *')?.classList.add('with-formulas');
  }

  /** Finish most of a long block. The rest continues inside of it. */
  cut(block) {
    const { at, before = '', stand } = cuts[block.type]?.(block) ?? { at: 0 };
    if (at <= before.length) return;
    this.draw(blocksOf(block.raw.slice(0, at)));
    if (this.parent === this.root) this.enter(this.live.at(-1));
    stand?.(this);
    this.live = [];
    this.source = before + this.source.slice(at);
    this.draw(blocksOf(this.source));
  }

  /** Put what follows inside of a block. */
  enter(block) {
    this.parent = insideOf(block);
    this.live = [...this.parent.childNodes];
  }

  finish() {
    this.settle();
    this.source = '';
    if (this.formulas) whenSet().then(this.done);
    else this.done();
  }
}

const lengthOf = (blocks) => blocks.reduce((sum, { raw }) => sum + raw.length, 0);

const insideOf = (node) => (node.matches('ul, ol') ? node : (node.querySelector('tbody, pre > code') ?? node));

const lastLine = (raw) => raw.lastIndexOf('\n', raw.length - 2) + 1;

const firstLines = (raw, count) => `${raw.split('\n', count).join('\n')}\n`;

/** Return where to split a block, the prefix that its rest needs, and what becomes of the finished part. */
const cuts = {
  list: ({ items }) => ({ at: lengthOf(items.slice(0, -1)) }),
  table: ({ raw }) => ({ at: lastLine(raw), before: firstLines(raw, 2) }),
  code({ raw }) {
    if (!/^ {0,3}[`~]/.test(raw)) return { at: 0 };
    // Text in an element of its own is not laid out again when more arrives.
    return { at: lastLine(raw), before: firstLines(raw, 1), stand: ({ parent, live }) => parent.append(el('span', 'part', ...live, '\n')) };
  },
  paragraph({ raw }) {
    const text = cuttable(raw);
    const at = lastLine(text);
    if (!at) return { at: text.trimEnd().lastIndexOf(' ') + 1 };
    return { at, stand: (text) => Object.assign(text, { parent: text.root, goesOn: true }) };
  },
};

function schedule(text) {
  if (!waiting.includes(text)) waiting.push(text);
  if (working) return;
  working = true;
  const pause = drawn + apart - performance.now();
  if (pause > 0) setTimeout(soon, pause);
  else soon();
}

// Hidden pages have no frames.
const soon = () => (document.hidden ? setTimeout(work, 50) : requestAnimationFrame(work));

function work() {
  const began = performance.now();
  while (waiting.length && performance.now() < began + budget) if (!waiting[0].step()) waiting.shift();
  // User input has priority: if a frame took long, layout included, the next one is delayed.
  setTimeout(() => rest(performance.now() - began));
}

function rest(cost) {
  working = false;
  drawn = performance.now();
  if (!waiting.length) return;
  working = true;
  setTimeout(soon, cost > 2 * budget ? 2 * cost : 0);
}
