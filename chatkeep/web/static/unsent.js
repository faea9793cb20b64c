/** Text that was not sent: put it back into the box, or offer it again in a notice. */

import { clearOutbox, keepDraft, readDraft, readOutbox } from './drafts.js';
import { t } from './i18n.js';
import { showFailure } from './notice.js';

/** `current()` returns the open conversation's `id`, and the `running` turn if there is one. */
export class Unsent {
  constructor(current, { composer, thread, send }) {
    this.current = current;
    this.composer = composer;
    this.thread = thread;
    this.send = send;
  }

  /** Store the text of the box as a draft. */
  note(text) {
    const { id, running } = this.current();
    keepDraft(id, text);
    if (!text && !running) clearOutbox(id);
  }

  /** Remove an answered message from the outbox. */
  forget({ text, cut, sentTo }) {
    if (text && !cut) clearOutbox(sentTo);
  }

  /** Make a refused message a draft again. A message without an answer stays in the outbox. */
  keep({ sentTo, text }, error) {
    if (text && error.status && !error.messageId && !readDraft(sentTo)) keepDraft(sentTo, text);
  }

  /** Put unsent text back into the box, unless it has newer text. */
  giveBack(text, error, words) {
    const { composer } = this;
    const newer = composer.text.trim() && composer.text !== text;
    if (newer) return this.offerApart(text, error, words);
    composer.text = text;
    keepDraft(this.current().id, text);
    const alone = () => composer.text === text && this.send(text);
    showFailure(error, words, () => this.send(composer.text), { alone });
  }

  offerApart(text, error, words) {
    const shown = t('not_sent', { text: shortened(text) });
    const again = () => (this.current().running ? this.offerApart(text, error, words) : this.send(text));
    const discard = () => clearOutbox(this.current().id);
    showFailure(error, `${words} ${shown}`, again, { more: [['discard', discard]] });
  }

  /** After a reload during a send: drop the outbox if its message has arrived, else offer the text again. */
  offer() {
    const { id, running } = this.current();
    const unsent = readOutbox(id);
    if (!unsent || running) return;
    const last = this.thread.last('user');
    if (last?.content === unsent.text && last.id > unsent.after) clearOutbox(id);
    else if (!this.composer.text) this.composer.text = unsent.text;
  }
}

const shortened = (text) => (text.length > 80 ? `${text.slice(0, 80)}…` : text);
