/** The drawer with the list of conversations on narrow screens. */

import { byId } from './dom.js';

const narrow = matchMedia('(max-width: 48rem)');
const side = byId('side');
const main = byId('main');
const menu = byId('menu');
const shade = byId('shade');

/** Open the drawer on narrow screens. */
export const openDrawer = () => setOpen(true);

/** Close the drawer if it is open. */
export const closeDrawer = () => setOpen(false);

function setOpen(open) {
  const shown = open && narrow.matches;
  const wasOpen = side.classList.contains('open');
  side.classList.toggle('open', shown);
  side.inert = narrow.matches && !shown;
  main.inert = shown;
  shade.hidden = !shown;
  menu.setAttribute('aria-expanded', String(shown));
  if (shown) byId('new').focus();
  else if (wasOpen) menu.focus();
}

menu.addEventListener('click', openDrawer);
byId('drawer-close').addEventListener('click', closeDrawer);
shade.addEventListener('click', closeDrawer);
side.addEventListener('keydown', (event) => event.key === 'Escape' && closeDrawer());
narrow.addEventListener('change', closeDrawer);
closeDrawer();
