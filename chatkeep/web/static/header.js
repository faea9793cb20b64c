/** The header of the open conversation: its title, expiry and menu. */

import { describeConversation } from './actions.js';
import { byId } from './dom.js';
import { expiryWords, watchExpiry } from './expiry.js';
import { moment, t } from './i18n.js';
import { explainExpiry } from './keeping.js';
import { menuButton } from './menu.js';

const longest = 80;

/** The header above the messages. Calls `over()` when the open conversation expires; `print()` prints it. */
export class Header {
  constructor(list, { over, print }) {
    Object.assign(this, { list, over, id: null });
    this.title = byId('title');
    this.left = byId('expiry');
    this.menu = menuButton(byId('conversation-menu'), () => describeConversation(list, this.id, this.title, print));
  }

  /** Show a conversation. The title of one without an id is its first message. */
  show(id, message = '') {
    this.id = id;
    const known = this.list.find(id);
    const title = known?.title || firstLine(message) || (id ? 'chatkeep' : t('new_conversation'));
    this.title.textContent = title;
    document.title = id || message ? `${title} – chatkeep` : 'chatkeep';
    this.menu.hidden = !known;
    this.showTimeLeft(known);
    explainExpiry(known);
    watchExpiry(known, this.over);
  }

  showTimeLeft(known) {
    this.left.textContent = known ? expiryWords(known) : '';
    this.left.title = known?.expires_at ? moment(known.expires_at) : '';
  }
}

function firstLine(text) {
  const line = text.trim().split('\n', 1)[0].replace(/\s+/g, ' ');
  return line.length > longest ? `${line.slice(0, longest - 1)}…` : line;
}
