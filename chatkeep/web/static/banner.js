/** A dismissible banner that says that the offline demo model answers. */

import { byId } from './dom.js';
import { tab } from './storage.js';

const banner = byId('demo');

if (banner) {
  banner.hidden = tab.read('demo-dismissed', false);
  byId('dismiss').addEventListener('click', () => {
    tab.write('demo-dismissed', true);
    banner.hidden = true;
    byId('message').focus();
  });
}
