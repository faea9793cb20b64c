/** Print a whole conversation, after loading all of its messages. */

import { t } from './i18n.js';
import { isCommand, isComposing, keyOf } from './keys.js';
import { hideNotice, showFailure, showNotice } from './notice.js';
import { explain } from './problems.js';

/**
 * Make the print shortcut load all messages first, and return a function that prints in the same way. `pages` has
 * `isWhole`, and `showAll()` that resolves to whether the conversation is still open.
 */
export function wholePrinting(pages) {
  let loading = false;

  async function printAll() {
    if (loading) return;
    loading = true;
    showNotice(t('print_loading'));
    try {
      if (await pages.showAll()) hideNotice(), print();
    } catch (error) {
      if (error.name !== 'AbortError') showFailure(error, explain(error), printAll);
    } finally {
      loading = false;
    }
  }

  addEventListener('keydown', (event) => {
    if (isComposing(event) || !isCommand(event) || event.shiftKey || keyOf(event) !== 'p' || pages.isWhole) return;
    event.preventDefault();
    printAll();
  });
  return printAll;
}
