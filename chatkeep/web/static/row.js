/** A conversation in the list. */

import { button, el, icon } from './dom.js';
import { marked } from './excerpt.js';
import { ago, moment, t } from './i18n.js';
import { menuButton } from './menu.js';

/** A link to a conversation, and the button of the menu that `describe()` returns. */
export class Row {
  constructor(id, describe) {
    this.title = el('span', 'title');
    this.title.dir = 'auto';
    this.time = el('time');
    this.found = el('span', 'found');
    this.found.dir = 'auto';
    this.link = el('a', 'entry', this.title, this.time, this.found);
    this.link.href = `#${id}`;
    this.menu = menuButton(button('tool', () => {}, icon('dots')), describe);
    this.node = el('li', '', this.link, this.menu);
    this.node.dataset.id = id;
  }

  /** Show a conversation. `query` is the search, and `excerpt` the match. */
  show(item, { current, query, excerpt = '' }) {
    const title = item.title || t('untitled');
    const shown = marked(title, query);
    this.title.replaceChildren(...shown);
    this.title.classList.toggle('marked', shown.length > 1);
    this.title.title = title;
    this.found.replaceChildren(...marked(excerpt, query));
    this.found.hidden = !excerpt;
    this.showTime(item.last_active);
    this.menu.setAttribute('aria-label', t('actions_of', { title }));
    if (current) this.link.setAttribute('aria-current', 'page');
    else this.link.removeAttribute('aria-current');
  }

  showTime(iso) {
    this.time.textContent = ago(iso);
    this.time.dateTime = iso;
    this.time.title = moment(iso);
  }
}
