/** One message on the page. */

import { button, el } from './dom.js';
import { editor, focusEditor } from './editor.js';
import { moment, say } from './i18n.js';
import { hasLibraries } from './libraries.js';
import { MarkdownText } from './markdown.js';
import { explainStored } from './problems.js';
import { Reasoning } from './reasoning.js';
import { GrowingText } from './text.js';
import { toolsOf } from './tools.js';

const unhappy = ['stopped', 'truncated', 'failed', 'interrupted'];
// Finish reasons of replies that are short without a failure.
const reasons = ['content_filter', 'length', 'refusal', 'tool_calls'];

/** Return the name of the text about a reply's end, or nothing for a normal end. */
export function endOf({ status, finish_reason: reason, error }) {
  const told = !error && (status === 'completed' || status === 'truncated');
  if (told && reasons.includes(reason)) return `ended_${reason}`;
  return unhappy.includes(status) ? `status_${status}` : undefined;
}

/** A user message or a reply, which may be growing. `acts` has the actions of its buttons. */
export class MessageView {
  constructor(message, acts) {
    const { id, role, content = '', siblings = [] } = message;
    Object.assign(this, { id, role, content, siblings, acts, known: Boolean(message.timestamp), reasoning: null, shown: null });
    this.build(message);
    if (role === 'user') this.showPlain();
    else this.showReply(message);
  }

  build({ timestamp }) {
    this.body = el('div', 'body');
    this.foot = el('footer');
    this.node = el('article', this.role, say(el('h2', 'unseen'), `role_${this.role}`), this.body, this.foot);
    if (timestamp) this.body.title = moment(timestamp);
  }

  showPlain() {
    const paragraph = el('p', '', this.content);
    paragraph.dir = 'auto';
    this.body.replaceChildren(paragraph);
    this.foot.replaceChildren(toolsOf(this, this.acts));
  }

  showReply(message) {
    this.text = hasLibraries ? new MarkdownText(this.body) : new GrowingText(this.body);
    this.resumed = Boolean(message.reasoning);
    if (message.reasoning) this.addReasoning(message.reasoning);
    if (this.content) this.text.append(this.content);
    this.settle({ ...message, error: message.error && explainStored(message) });
  }

  /** The length of the text in code points, like in the API. */
  get characters() {
    return Array.from(this.content).length;
  }

  /** Add a piece of the reply. */
  addText(text) {
    this.content += text;
    this.text.append(text);
    this.reasoning?.end();
  }

  /** Add a piece of the reasoning, which is collapsed. */
  addReasoning(text) {
    this.reasoning ??= new Reasoning(this.body, !this.resumed);
    this.reasoning.append(text);
  }

  /** Remove the reasoning, because it is sent again from its beginning. */
  forgetReasoning() {
    this.reasoning?.remove();
    this.reasoning = null;
  }

  /** Show the reply's status from the API. A final status ends the text. `error` is human-readable. */
  settle({ status, model, cached, error, ...rest }) {
    this.status = status;
    this.model = model ?? this.model;
    this.cached = cached ?? this.cached;
    this.foot.replaceChildren(...(this.content || status === 'generating' ? this.origin() : []));
    const end = endOf({ status, error, ...rest });
    if (end) this.foot.append(say(el('span', 'status'), end));
    if (error) this.foot.append(el('span', 'error', error));
    if (unhappy.includes(status) && status !== 'stopped' && this.acts.regenerate) this.offerRetry();
    if (status === 'generating') this.node.dataset.status = status;
    else this.finish(status);
  }

  /** Update a message sent from here with the server's fields. */
  learn({ id, siblings }) {
    Object.assign(this, { id, siblings, known: true });
    const old = this.foot.querySelector('.tools');
    const focused = old?.contains(document.activeElement) ? document.activeElement.dataset.label : null;
    old?.replaceWith(toolsOf(this, this.acts));
    if (focused) this.foot.querySelector(`[data-label="${focused}"]`)?.focus();
  }

  /** Let the user edit a user message. Calls `send(text)`. */
  edit(text, send) {
    const form = editor(text, { send, cancel: () => this.endEdit() });
    this.node.classList.add('edited');
    this.body.replaceChildren(form);
    this.foot.replaceChildren();
    focusEditor(form);
  }

  /** The text in the box during an edit. */
  get edited() {
    return this.body.querySelector('textarea')?.value;
  }

  /** End the edit, and show the message as it was sent. */
  endEdit() {
    this.node.classList.remove('edited');
    this.showPlain();
    this.foot.querySelector('.edit')?.focus();
  }

  finish(status) {
    this.reasoning?.end();
    this.foot.append(toolsOf(this, this.acts));
    this.shown = Promise.resolve(this.text.end()).then(() => (this.node.dataset.status = status));
  }

  origin() {
    const badge = say(el('span', 'badge'), 'ai_generated');
    const model = this.model ? [el('span', '', this.model)] : [];
    return [badge, ...model, ...(this.cached ? [say(el('span', 'badge'), 'cached')] : [])];
  }

  offerRetry() {
    this.node.classList.add('broken');
    this.foot.append(say(button('link again', () => this.acts.regenerate(this)), 'try_again'));
  }

  /** Show a temporary remark, such as "reconnecting". */
  remark(name) {
    this.foot.querySelector('.remark')?.remove();
    if (name) this.foot.append(say(el('span', 'remark'), name));
  }
}
