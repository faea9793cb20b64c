/** Which theme the reader wants: remembered, and told to theme.js. */

import { browser } from './storage.js';

/** The themes that can be chosen. */
export const themes = ['system', 'light', 'dark'];

/** Return the chosen theme. */
export const currentTheme = () => browser.read('theme', 'system');

/** Use a theme from now on. */
export function chooseTheme(theme) {
  browser.write('theme', theme === 'system' ? null : theme);
  dispatchEvent(new CustomEvent('theme', { detail: theme }));
}
