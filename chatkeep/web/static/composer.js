/** The message box. */

import { byId, icon } from './dom.js';
import { fit, onEnter, touch } from './enter.js';
import { label } from './i18n.js';

// The second click of a double click on "send" must not stop the reply.
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

  /** Set the text of the box. */
  set text(text) {
    this.box.value = text;
    this.refresh();
  }

  /** Focus the box, except on touch screens, where that would open the keyboard. */
  focus() {
    if (!touch.matches) this.box.focus();
  }

  /** Set whether the button sends, stops, or waits for the stop. */
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

  // The button is disabled while the reply stops, so it can't keep the focus.
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
