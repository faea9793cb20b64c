/** The user's choice of theme: stored, and passed to theme.js. */

import { browser } from './storage.js';

/** The available themes. */
export const themes = ['system', 'light', 'dark'];

/** Return the chosen theme. */
export const currentTheme = () => browser.read('theme', 'system');

/** Choose a theme. */
export function chooseTheme(theme) {
  browser.write('theme', theme === 'system' ? null : theme);
  dispatchEvent(new CustomEvent('theme', { detail: theme }));
}
