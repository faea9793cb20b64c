/** The contents of the menus for one conversation and for the whole page. */

import { exportAddress } from './api.js';
import { chooseTheme, currentTheme, themes } from './appearance.js';
import { expiryWords } from './expiry.js';
import { t } from './i18n.js';
import { explain } from './problems.js';
import { openSharing } from './share.js';
import { toggleHelp } from './shortcuts.js';
import { showToast } from './toast.js';
import { deleteLater, settleDeletion } from './undo.js';
import { currentWho, leave } from './who.js';

const formats = [
  ['markdown', { format: 'md' }],
  ['json', { format: 'json' }],
  // Excel detects UTF-8 by the byte order mark.
  ['csv', { format: 'csv', bom: true }],
];

/** Return the menu of a conversation. `node` is where its title is edited; `print` prints the open conversation. */
export function describeConversation(list, id, node, print) {
  const item = list.find(id);
  const { pinned } = item;
  const rename = { name: 'rename', icon: 'rename', act: () => list.rename(id, node) };
  const pin = { name: pinned ? 'unpin' : 'pin', icon: 'pin', act: () => list.change(id, { pinned: !pinned }) };
  const share = { name: 'share', icon: 'link', act: () => openSharing(id) };
  const remove = { name: 'delete', icon: 'delete', act: () => deleteLater(list, item), danger: true };
  const paper = print ? [{ name: 'print', icon: 'print', act: print }] : [];
  const entries = [rename, pin, share, ...paper];
  return { note: expiryWords(item), groups: [{ entries }, exportsOf(id), { entries: [remove] }] };
}

/** Return the page's menu. */
export function describePage() {
  const choices = themes.map((theme) => ({
    name: `theme_${theme}`,
    checked: theme === currentTheme(),
    act: () => chooseTheme(theme),
  }));
  const help = { name: 'shortcuts', icon: 'keyboard', act: toggleHelp };
  const groups = [{ label: 'theme', entries: choices }, exportsOf(null), { entries: [help] }];
  const name = currentWho()?.name;
  if (!name) return { groups };
  return { note: t('signed_in_as', { name }), groups: [...groups, { entries: [{ name: 'sign_out', icon: 'leave', act: signOut }] }] };
}

async function signOut() {
  try {
    await settleDeletion();
    await leave();
  } catch (error) {
    showToast(explain(error), ['try_again', signOut]);
  }
}

function exportsOf(id) {
  const entries = formats.map(([name, query]) => ({ name, icon: 'export', href: exportAddress(id, query) }));
  return { label: id ? 'export' : 'export_all', entries };
}
