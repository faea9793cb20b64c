/** Menu buttons for mouse, touch and keyboard, by the ARIA pattern "menu button". */

import { button, el, icon } from './dom.js';
import { say, t } from './i18n.js';

const gap = 4;
const edge = 8;
let opened = null;

/**
 * Make a button open a menu. `describe()` returns `{note, groups}`: a line of text above, and groups `{label, entries}`
 * of entries `{name, icon, act}`, with `href` in place of `act` for a download and `checked` for a choice.
 */
export function menuButton(anchor, describe) {
  anchor.setAttribute('aria-haspopup', 'menu');
  anchor.setAttribute('aria-expanded', 'false');
  anchor.addEventListener('click', () => (opened?.anchor === anchor ? closeMenu() : open(anchor, describe())));
  anchor.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    event.preventDefault();
    open(anchor, describe(), event.key === 'ArrowUp' ? -1 : 0);
  });
  return anchor;
}

/** Close the open menu, and return the focus to its button. */
export function closeMenu() {
  if (!opened) return;
  const { anchor, box, listening } = opened;
  const inside = box.contains(document.activeElement);
  opened = null;
  listening.abort();
  box.remove();
  anchor.setAttribute('aria-expanded', 'false');
  if (inside) anchor.focus();
}

function open(anchor, menu, first = 0) {
  closeMenu();
  const box = build(anchor, menu);
  opened = { anchor, box, listening: new AbortController() };
  // Next to its button, so that a screen reader knows where the menu belongs.
  anchor.closest('nav, main').append(box);
  place(box, anchor.getBoundingClientRect());
  anchor.setAttribute('aria-expanded', 'true');
  listen(opened);
  items(box).at(first).focus();
}

function build(anchor, { note = '', groups }) {
  const list = el('div', '', ...groups.map(group));
  list.setAttribute('role', 'menu');
  list.setAttribute('aria-label', anchor.getAttribute('aria-label') ?? anchor.textContent);
  return el('div', 'menu', ...(note ? [el('p', 'note', note)] : []), list);
}

function group({ label, entries }) {
  const node = el('div', 'group', ...entries.map(entry));
  node.setAttribute('role', 'group');
  if (!label) return node;
  node.setAttribute('aria-label', t(label));
  const heading = say(el('p', 'heading'), label);
  heading.setAttribute('aria-hidden', 'true');
  node.prepend(heading);
  return node;
}

function entry({ name, icon: picture, act, href, checked, danger }) {
  const words = say(el('span'), name);
  const mark = icon(checked ? 'check' : picture ?? 'none');
  const node = href ? el('a', 'choice', mark, words) : button('choice', act, mark, words);
  if (href) Object.assign(node, { href, download: '' });
  node.setAttribute('role', checked === undefined ? 'menuitem' : 'menuitemradio');
  if (checked !== undefined) node.setAttribute('aria-checked', String(checked));
  node.classList.toggle('danger', Boolean(danger));
  node.tabIndex = -1;
  // Close the menu before the act, which may move the focus.
  node.addEventListener('click', closeMenu, { capture: true });
  return node;
}

function listen({ anchor, box, listening }) {
  const { signal } = listening;
  const outside = ({ target }) => !box.contains(target) && !anchor.contains(target);
  box.addEventListener('keydown', noteKey);
  addEventListener('pointerdown', (event) => outside(event) && closeMenu(), { signal, capture: true });
  addEventListener('scroll', ({ target }) => target.contains?.(anchor) && closeMenu(), { signal, capture: true });
  addEventListener('resize', closeMenu, { signal });
  addEventListener('hashchange', closeMenu, { signal });
}

function noteKey(event) {
  const choices = items(opened.box);
  const here = choices.indexOf(document.activeElement);
  const step = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: -1 }[event.key];
  const to = step ?? startingWith(event, choices, here);
  if (event.key === 'Escape' || event.key === 'Tab') closeMenu();
  else if (to !== undefined) choices.at(to % choices.length).focus();
  else return;
  // Escape closes only the menu.
  event.stopPropagation();
  if (event.key !== 'Tab') event.preventDefault();
}

function startingWith({ key, ctrlKey, metaKey, altKey }, choices, here) {
  if (key.length !== 1 || key === ' ' || ctrlKey || metaKey || altKey) return undefined;
  const begins = ({ textContent }) => textContent.toLowerCase().startsWith(key.toLowerCase());
  const found = [...choices.slice(here + 1), ...choices].find(begins);
  return found && choices.indexOf(found);
}

const items = (box) => [...box.querySelectorAll('.choice')];

function place(box, { top, bottom, left, right }) {
  const { offsetWidth: width, offsetHeight: height } = box;
  const below = bottom + gap + height + edge <= innerHeight;
  const y = below ? bottom + gap : Math.max(edge, top - gap - height);
  const x = left + width + edge <= innerWidth ? left : Math.max(edge, right - width);
  box.style.left = `${x}px`;
  box.style.top = `${Math.max(edge, Math.min(y, innerHeight - height - edge))}px`;
}
