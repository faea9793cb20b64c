/** A reply's reasoning: collapsed, animated while the model thinks, then with its duration. */

import { el } from './dom.js';
import { currentLanguage, say } from './i18n.js';

/** Precedes `body`. `live` says that the model is thinking now. */
export class Reasoning {
  constructor(body, live) {
    this.began = live ? performance.now() : null;
    this.summary = el('summary');
    this.text = el('div', 'reasoning');
    this.node = el('details', '', this.summary, this.text);
    this.name(live ? 'thinking' : 'reasoning');
    body.before(this.node);
  }

  /** Add a piece. */
  append(text) {
    this.text.append(text);
  }

  /** End the reasoning, because the answer begins or the reply ends. */
  end() {
    if (this.began === null) return;
    const seconds = Math.round((performance.now() - this.began) / 1000);
    this.began = null;
    this.name(seconds ? 'thought_for' : 'reasoning');
    if (seconds) this.summary.append(' ', inSeconds(seconds));
  }

  /** Remove it. */
  remove() {
    this.node.remove();
  }

  name(text) {
    this.summary.replaceChildren(say(el('span'), text));
  }
}

const inSeconds = (count) =>
  new Intl.NumberFormat(currentLanguage(), { style: 'unit', unit: 'second', unitDisplay: 'narrow' }).format(count);
