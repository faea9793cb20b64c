/** Render streamed plain text with code blocks. Finished nodes are never changed. */

import { el } from './dom.js';
import { say } from './i18n.js';

// Matches a whole fence, so that none of its characters can belong to what follows.
const fence = /^ {0,3}(`{3,}(?!`)|~{3,}(?!~))([^`\n]*)$/;
const mayBecomeFence = /^ {0,3}(`{0,2}|`{3,}[^`]*|~{0,2}|~{3}.*)$/;

/** Renders text piece by piece as paragraphs and code blocks in `root`. */
export class GrowingText {
  constructor(root) {
    this.root = root;
    this.line = '';
    this.tail = null;
    this.block = null;
    this.opening = null;
  }

  /** Add a piece of text. */
  append(text) {
    const lines = text.split('\n');
    for (const line of lines.slice(0, -1)) this.endLine(line);
    this.line += lines.at(-1);
    // Show an unfinished line at once, unless it may become a fence.
    if (!mayBecomeFence.test(this.line)) this.showLine();
  }

  /** End the text, and show what was held back. */
  end() {
    if (this.line) this.endLine('');
  }

  endLine(rest) {
    this.line += rest;
    if (this.opening) this.endCodeLine();
    else this.endTextLine();
    this.line = '';
    this.tail = null;
  }

  endTextLine() {
    const match = fence.exec(this.line);
    if (match) this.openCode(match);
    else if (this.line.trim() === '') this.block = null;
    else this.showLine();
  }

  endCodeLine() {
    const match = fence.exec(this.line);
    const closes = match && !match[2].trim() && match[1].startsWith(this.opening);
    if (!closes) return this.showLine();
    this.tail?.remove();
    this.block = this.opening = null;
  }

  openCode([, mark, language]) {
    this.tail?.remove();
    this.opening = mark;
    this.block = el('code');
    const name = language.trim().split(/\s/)[0];
    const caption = name ? el('figcaption', '', name) : say(el('figcaption'), 'code');
    this.root.append(el('figure', 'code', caption, el('pre', '', this.block)));
  }

  showLine() {
    this.block ??= this.newParagraph();
    if (!this.tail) {
      this.lineBreak = this.block.hasChildNodes() ? '\n' : '';
      this.tail = document.createTextNode('');
      this.block.append(this.tail);
    }
    // Appending keeps the user's selection.
    this.tail.appendData((this.lineBreak + this.line).slice(this.tail.length));
  }

  newParagraph() {
    const paragraph = el('p');
    paragraph.dir = 'auto';
    this.root.append(paragraph);
    return paragraph;
  }
}
