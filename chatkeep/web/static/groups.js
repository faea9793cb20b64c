/** The list's groups: pinned conversations, then by the day of the last activity. */

import { el } from './dom.js';
import { say } from './i18n.js';

const names = ['pinned', 'today', 'yesterday', 'last_week', 'older'];
const day = 86_400_000;

/** Return the groups' nodes; `rows` is the list for a group's rows. */
export function makeGroups() {
  return new Map(names.map((name) => [name, makeGroup(name)]));
}

/** Return the name of a conversation's group. */
export function groupOf({ pinned, last_active: lastActive }) {
  if (pinned) return 'pinned';
  const days = Math.round((midnight(Date.now()) - midnight(Date.parse(lastActive))) / day);
  if (days < 1) return 'today';
  if (days === 1) return 'yesterday';
  return days <= 7 ? 'last_week' : 'older';
}

/** Make nodes the children of a parent. Moves only misplaced nodes, so that the focus is kept. */
export function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstChild;
  for (const node of nodes) {
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
  }
}

function makeGroup(name) {
  const heading = say(el('h2'), `group_${name}`);
  const rows = el('ul');
  heading.id = `group-${name}`;
  rows.setAttribute('aria-labelledby', heading.id);
  return { node: el('section', '', heading, rows), rows };
}

const midnight = (time) => new Date(time).setHours(0, 0, 0, 0);
