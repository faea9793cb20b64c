/** The libraries for replies. If they were not built, the server has empty modules in their place. */

import * as marked from './vendor/marked.js';
import * as purify from './vendor/purify.js';

const tags = (
  'a blockquote br code del em h3 h4 h5 h6 hr ins kbd li mark ol p pre span strong sub sup table tbody td th thead tr ul'
).split(' ');
const policy = {
  ALLOWED_TAGS: tags,
  ALLOWED_ATTR: ['align', 'class', 'href', 'start', 'title'],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ADD_URI_SAFE_ATTR: ['align', 'start'],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const failures = new Map();

/**
 * Import a library of the folder vendor on demand. Firefox and older browsers never retry a URL that failed, so a retry
 * uses another one.
 */
export async function importLibrary(name) {
  const failed = failures.get(name) ?? 0;
  try {
    return await import(`./vendor/${name}${failed ? `?again=${failed}` : ''}`);
  } catch (error) {
    failures.set(name, failed + 1);
    throw error;
  }
}

/** Whether the libraries for Markdown are available. */
export const hasLibraries = 'Marked' in marked && 'default' in purify;

/** Return a Markdown parser with these options. */
export const newParser = (options) => new marked.Marked(options);

/** Sanitise HTML to a fragment: no scripts, styles, forms, pictures, ids, or links into the page. */
export const sanitised = (html) => purify.default.sanitize(html, policy);
