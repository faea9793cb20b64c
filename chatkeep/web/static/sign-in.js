/** Sign-in: a card above the page that asks for a key until the user has signed in. */

import { currentPlace, noteSignIn, oidcAddress, signIn, whoAmI } from './api.js';
import { button, el } from './dom.js';
import { hasText, label, say, switchLanguage, t } from './i18n.js';
import { explain } from './problems.js';
import { browser } from './storage.js';
import { meet } from './who.js';

// A browser that rejects cookies would be asked again and again.
const atOnce = 3000;
const marked = 'chatkeep.signed-in';
let asked = null;
let signedInAt = -Infinity;

/** Ask for a key. Resolves after a sign-in, here or in another tab. `hint` is the name of the text above. */
export function askForKey(hint) {
  asked ??= ask(hint).finally(() => (asked = null));
  return asked;
}

async function ask(hint) {
  const { dialog, box, complain } = card(hint);
  document.body.append(dialog);
  dialog.showModal();
  complain(performance.now() - signedInAt < atOnce ? t('sign_in_not_kept') : tellFailure());
  await new Promise((resolve) => listen(dialog, box, complain, resolve));
  signedInAt = performance.now();
  dialog.close();
  dialog.remove();
}

function card(hint) {
  const box = el('input');
  const attributes = { id: 'key', type: 'password', name: 'key', autocomplete: 'current-password', autofocus: true };
  Object.assign(box, attributes, { spellcheck: false, autocapitalize: 'off', dir: 'ltr' });
  box.setAttribute('aria-describedby', 'sign-in-error');
  const error = el('p', 'error');
  error.id = 'sign-in-error';
  error.setAttribute('role', 'alert');
  const name = say(el('label'), 'key');
  name.htmlFor = 'key';
  const submit = say(el('button', 'main'), 'sign_in');
  const form = el('form', '', name, box, error, submit);
  const dialog = el('dialog', 'sign-in', head(), say(el('p', 'hint'), hint), form, ...otherWays());
  dialog.id = 'sign-in';
  dialog.setAttribute('aria-labelledby', 'sign-in-title');
  return { dialog, box, complain: (words) => complain(box, error, words) };
}

function head() {
  const title = say(el('h2'), 'sign_in');
  title.id = 'sign-in-title';
  return el('div', 'dialog-head', title, label(say(button('link', switchLanguage), 'language'), 'language_hint'));
}

function otherWays() {
  const { oidc } = document.documentElement.dataset;
  if (!oidc) return [];
  const other = el('a', 'other', t('sign_in_with', { name: oidc }));
  other.href = oidcAddress(currentPlace());
  addEventListener('language', () => (other.textContent = t('sign_in_with', { name: oidc })));
  return [other];
}

/** Return the error of a failed OpenID sign-in from the URL, once. */
function tellFailure() {
  const address = new URL(location);
  const failure = `sign_in_${address.searchParams.get('sign-in')}`;
  address.searchParams.delete('sign-in');
  history.replaceState(null, '', address);
  return hasText(failure) ? t(failure) : '';
}

function complain(box, error, words) {
  error.textContent = words;
  box.toggleAttribute('aria-invalid', Boolean(words));
  if (!words) return;
  box.focus();
  box.select();
}

function listen(dialog, box, complain, done) {
  const closing = new AbortController();
  const end = () => (closing.abort(), done());
  const { signal } = closing;
  dialog.querySelector('form').addEventListener('submit', (event) => {
    event.preventDefault();
    send(box, complain).then((signedIn) => signedIn && end());
  });
  // Nothing behind the card works without a key, so it can't be dismissed.
  dialog.addEventListener('keydown', (event) => event.key === 'Escape' && event.preventDefault());
  dialog.addEventListener('cancel', (event) => event.preventDefault());
  dialog.addEventListener('close', () => signal.aborted || dialog.showModal());
  addEventListener('storage', ({ key }) => key === marked && learn().then(end), { signal });
}

async function learn() {
  noteSignIn();
  meet(await whoAmI());
}

async function send(box, complain) {
  const key = box.value.trim();
  if (!key) return complain(t('key_missing'));
  complain('');
  try {
    const who = await signIn(key);
    browser.write('signed-in', Date.now());
    meet(who);
    return true;
  } catch (problem) {
    complain(problem.code === 'unauthorized' ? t('key_wrong') : explain(problem));
    return false;
  }
}
