/** Printing a whole conversation: messages that are not loaded yet are loaded first. */

import { t } from './i18n.js';
import { isCommand, isComposing, keyOf } from './keys.js';
import { hideNotice, showFailure, showNotice } from './notice.js';
import { explain } from './problems.js';

/**
 * Have the keys for printing load all messages first if `isWhole()` denies that they are there; return a function that
 * does the same. `loadAll()` resolves to whether the reader is still there.
 */
export function wholePrinting(isWhole, loadAll) {
  let loading = false;

  async function printAll() {
    if (loading) return;
    loading = true;
    showNotice(t('print_loading'));
    try {
      if (await loadAll()) hideNotice(), print();
    } catch (error) {
      if (error.name !== 'AbortError') showFailure(error, explain(error), printAll);
    } finally {
      loading = false;
    }
  }

  addEventListener('keydown', (event) => {
    if (isComposing(event) || !isCommand(event) || event.shiftKey || keyOf(event) !== 'p' || isWhole()) return;
    event.preventDefault();
    printAll();
  });
  return printAll;
}
