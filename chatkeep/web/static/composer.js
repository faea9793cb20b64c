/** The box where messages are written. */

import { byId, icon } from './dom.js';
import { fit, onEnter, touch } from './enter.js';
import { label } from './i18n.js';

// A second click that was meant for "send" must not stop the reply.
const doubleClick = 500;

/** Calls `send(text)`, `stop()` and `changed(text)`; its mode is "idle", "generating" or "stopping". */
export class Composer {
  constructor({ send, stop, changed }) {
    Object.assign(this, { send, stop, changed });
    this.form = byId('composer');
    this.box = byId('message');
    this.action = byId('action');
    this.setMode('idle');
    this.listen();
  }

  get text() {
    return this.box.value;
  }

  /** Put text into the box. */
  set text(text) {
    this.box.value = text;
    this.refresh();
  }

  /** Put the cursor into the box, except on touch, where that would bring the keyboard up. */
  focus() {
    if (!touch.matches) this.box.focus();
  }

  /** Make the button send, stop, or wait for the stop. */
  setMode(mode) {
    this.mode = mode;
    this.since = performance.now();
    label(this.action, { idle: 'send', generating: 'stop', stopping: 'stopping' }[mode]);
    this.action.replaceChildren(icon(mode === 'idle' ? 'send' : 'stop'));
    this.refresh();
  }

  listen() {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.act();
    });
    this.box.addEventListener('input', () => {
      this.refresh();
      this.changed(this.text);
    });
    onEnter(this.box, () => this.sendText());
  }

  act() {
    if (this.mode === 'idle') this.sendText();
    else if (this.mode === 'generating' && performance.now() - this.since > doubleClick) this.stopReply();
  }

  // While the reply stops, the button is disabled and cannot keep the focus.
  stopReply() {
    this.focus();
    this.stop();
  }

  sendText() {
    if (this.mode === 'idle' && this.text.trim()) this.send(this.text);
  }

  refresh() {
    this.action.disabled = this.mode === 'stopping' || (this.mode === 'idle' && !this.text.trim());
    fit(this.box);
  }
}
