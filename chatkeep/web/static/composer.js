/** The box where messages are written. */

import { byId, icon } from './dom.js';
import { label } from './i18n.js';

const touch = matchMedia('(hover: none) and (pointer: coarse)');
// A second click that was meant for "send" must not stop the reply.
const doubleClick = 500;

/** Calls `send(text)`, `stop()` and `changed(text)`; its mode is "idle", "generating" or "stopping". */
export class Composer {
  constructor({ send, stop, changed }) {
    Object.assign(this, { send, stop, changed, composing: false });
    this.form = byId('composer');
    this.box = byId('message');
    this.action = byId('action');
    this.box.enterKeyHint = touch.matches ? 'enter' : 'send';
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
    this.box.addEventListener('keydown', (event) => this.noteKey(event));
    this.box.addEventListener('keyup', () => (this.composing = false));
    this.box.addEventListener('compositionend', () => this.noteComposed());
  }

  act() {
    if (this.mode === 'idle') this.sendText();
    else if (this.mode === 'generating' && performance.now() - this.since > doubleClick) this.stop();
  }

  sendText() {
    if (this.mode === 'idle' && this.text.trim()) this.send(this.text);
  }

  noteKey(event) {
    if (event.key !== 'Enter' || event.shiftKey || event.altKey || touch.matches) return;
    if (event.isComposing || event.keyCode === 229 || this.composing) return;
    event.preventDefault();
    if (!event.repeat) this.sendText();
  }

  // In Safari the Enter that ends a composition comes after it: leave the key alone until it is up.
  noteComposed() {
    this.composing = true;
    setTimeout(() => (this.composing = false), 300);
  }

  refresh() {
    this.action.disabled = this.mode === 'stopping' || (this.mode === 'idle' && !this.text.trim());
    this.box.style.height = 'auto';
    this.box.style.height = `${this.box.scrollHeight}px`;
  }
}
