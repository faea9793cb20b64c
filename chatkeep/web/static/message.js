/** One message on the page. */

import { button, el } from './dom.js';
import { moment, say } from './i18n.js';
import { explainCode } from './problems.js';
import { GrowingText } from './text.js';

const unhappy = ['stopped', 'truncated', 'failed', 'interrupted'];

/** A user message or a reply; a reply grows while it is generated. `retry` is called with the view. */
export class MessageView {
  constructor(message, retry) {
    this.id = message.id;
    this.role = message.role;
    this.content = message.content ?? '';
    this.retry = retry;
    this.build(message);
    if (message.reasoning) this.addReasoning(message.reasoning);
    this.text.append(this.content);
    if (this.role === 'user') this.text.end();
    else this.settle({ ...message, error: message.error && explainCode(message.error) });
  }

  build({ timestamp }) {
    this.body = el('div', 'body');
    this.text = new GrowingText(this.body);
    this.foot = el('footer');
    this.node = el('article', this.role, say(el('h2', 'unseen'), `role_${this.role}`), this.body);
    if (this.role === 'assistant') this.node.append(this.foot);
    if (timestamp) this.body.title = moment(timestamp);
  }

  /** How many characters (code points) the text has: what the API counts in. */
  get characters() {
    return Array.from(this.content).length;
  }

  /** Add a piece of the reply. */
  addText(text) {
    this.content += text;
    this.text.append(text);
  }

  /** Add a piece of the reasoning, which is folded. */
  addReasoning(text) {
    if (!this.reasoning) {
      this.reasoning = el('div', 'reasoning');
      const details = el('details', '', say(el('summary'), 'reasoning'), this.reasoning);
      this.body.before(details);
    }
    this.reasoning.append(text);
  }

  /** Take the reasoning away: it comes again as a whole. */
  forgetReasoning() {
    this.reasoning?.parentElement.remove();
    this.reasoning = null;
  }

  /** Show where the reply stands; a final status ends the text. `error` is in words for people. */
  settle({ status, model, error }) {
    this.status = status;
    this.model = model ?? this.model;
    this.node.dataset.status = status;
    if (status !== 'generating') this.text.end();
    this.foot.replaceChildren(...(this.content || status === 'generating' ? this.origin() : []));
    if (unhappy.includes(status)) this.foot.append(say(el('span', 'status'), `status_${status}`));
    if (error) this.foot.append(el('span', 'error', error));
    if (unhappy.includes(status) && status !== 'stopped') this.offerRetry();
  }

  origin() {
    const badge = say(el('span', 'badge'), 'ai_generated');
    return this.model ? [badge, el('span', '', this.model)] : [badge];
  }

  offerRetry() {
    this.foot.append(say(button('link again', () => this.retry(this)), 'try_again'));
  }

  /** Show a passing remark, such as that the connection is being made anew. */
  remark(name) {
    this.foot.querySelector('.remark')?.remove();
    if (name) this.foot.append(say(el('span', 'remark'), name));
  }
}
