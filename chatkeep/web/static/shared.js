/** The read-only page of a shared conversation. */

import { getJson } from './api.js';
import { listenForCopies } from './code.js';
import { byId } from './dom.js';
import { switchLanguage, t, translatePage } from './i18n.js';
import { MessageView } from './message.js';
import { hideNotice, retryFailed, showFailure, showNotice } from './notice.js';
import { wholePrinting } from './printing.js';
import { explain } from './problems.js';

// A running reply is loaded again.
const pause = 3000;
const early = '0px 0px 1500px';
const token = location.pathname.split('/').at(-1);
const root = byId('messages');
const more = byId('more');
const views = [];
let waiting = false;

async function showMore() {
  if (waiting) return;
  waiting = true;
  try {
    hideNotice();
    await addMore();
  } catch (error) {
    complain(error);
  } finally {
    waiting = false;
  }
}

const read = (query) => getJson(`shared/${token}`, query);

async function addMore() {
  const after = views.length;
  const { title, messages: { data, has_more: hasMore } } = await read({ after });
  showTitle(title || t('untitled'));
  const found = data.map((message) => new MessageView(message, {}));
  await Promise.all(found.map(({ shown }) => shown));
  // Another request may have loaded the same messages meanwhile.
  if (after !== views.length) return;
  root.append(...found.map(({ node }) => node));
  views.push(...found);
  more.hidden = byId('cut').hidden = !hasMore;
  nearEnd.disconnect();
  if (hasMore) nearEnd.observe(more);
  else lookAgain();
}

async function loadAll() {
  while (!more.hidden) await addMore();
  return true;
}

function showTitle(title) {
  delete byId('title').dataset.text;
  byId('title').textContent = title;
  document.title = `${title} – chatkeep`;
}

function lookAgain() {
  if (views.at(-1)?.status === 'generating') setTimeout(refreshLast, pause);
}

async function refreshLast() {
  try {
    const { messages } = await read({ after: views.length - 1, limit: 1 });
    const view = new MessageView(messages.data[0], {});
    await view.shown;
    views.pop().node.replaceWith(view.node);
    views.push(view);
    lookAgain();
  } catch (error) {
    complain(error);
  }
}

function complain(error) {
  if (error.status === 404) showNotice(t('share_gone'));
  else showFailure(error, explain(error), showMore);
}

const nearEnd = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && showMore(), { rootMargin: early });

translatePage();
wholePrinting({
  get isWhole() {
    return more.hidden;
  },
  showAll: loadAll,
});
listenForCopies(root);
more.addEventListener('click', showMore);
addEventListener('online', retryFailed);
byId('language').addEventListener('click', switchLanguage);
showMore();
