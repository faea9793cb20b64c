/** The admin page: what it loads, how often, and where it is shown. */

import { bytes, clock, count, seconds, share, t, translate } from './admin-i18n.js';
import { showJobs } from './admin-jobs.js';
import { Plot } from './admin-plot.js';
import { getJson, whenLocked, whoAmI } from './api.js';
import { button, byId, el } from './dom.js';
import { say, switchLanguage } from './i18n.js';
import { explain } from './problems.js';
import { askForKey } from './sign-in.js';
import { browser } from './storage.js';
import { currentWho, leave, meet } from './who.js';

const every = 10_000;
const command = 'chatkeep keys create NAME --scopes admin,export';
const cache = 'chatkeep_cache_answers_total';
const hours = { '1h': 1, '24h': 24, '7d': 168, '30d': 720 };

const plots = {
  chatkeep_turns_total: new Plot({ name: 'turns', format: count, perStep: true, colours: [1, 2, 3, 4, 5] }),
  chatkeep_tokens_total: new Plot({ name: 'tokens', format: count, perStep: true, colours: [2, 1] }),
  chatkeep_provider_errors_total: new Plot({ name: 'errors', format: count, perStep: true, colours: [4, 3, 5, 2] }),
  chatkeep_first_token_seconds: new Plot({ name: 'first_token', format: seconds, colours: [1, 3] }),
  chatkeep_turn_seconds: new Plot({ name: 'turn_time', format: seconds, colours: [1, 3] }),
  chatkeep_commit_seconds: new Plot({ name: 'commits', format: seconds, colours: [1, 3] }),
  [cache]: new Plot({ name: 'cache', format: share }),
  chatkeep_replies_generating: new Plot({ name: 'generating', format: count }),
  chatkeep_workers: new Plot({ name: 'workers', format: count }),
  chatkeep_conversations: new Plot({ name: 'conversations', format: count }),
  chatkeep_expired_conversations_total: new Plot({ name: 'expired', format: count, perStep: true, colours: [3] }),
  chatkeep_storage_bytes: new Plot({ name: 'storage', format: bytes, colours: [2] }),
};

let range = browser.read('admin-range', '1h');
let summary = null;
let series = {};
let jobs = null;
let hasJobs = true;
let asked = 0;
let refused = false;

/** Load what may have changed, and show it. One request at a time, because the server would serialise them anyway. */
async function refresh() {
  const mine = ++asked;
  try {
    // First and alone, so that a key without the scope is refused once, not for each plot.
    const now = await getJson('admin/summary');
    const found = await Promise.all([seriesAreDue() ? askForSeries() : series, askForJobs()]);
    if (mine !== asked) return;
    refused = false;
    summary = now;
    [series, jobs] = found;
    byId('notice').hidden = true;
    byId('ranges').hidden = byId('plots').hidden = false;
    show();
  } catch (error) {
    if (mine === asked) complain(error);
  }
}

// Plots with intervals longer than a minute change slowly.
const seriesAreDue = () =>
  series.range !== range || Date.now() - series.at >= Math.min(60_000, every * (range === '1h' ? 1 : 6)) - every / 2;

async function askForSeries() {
  const to = new Date();
  const from = new Date(to - hours[range] * 3_600_000);
  const names = Object.keys(plots);
  const found = await Promise.all(
    names.map((name) => getJson('admin/series', { name, from: from.toISOString(), to: to.toISOString() })),
  );
  return { range, at: Date.now(), ...Object.fromEntries(names.map((name, index) => [name, found[index]])) };
}

async function askForJobs() {
  if (!hasJobs) return null;
  try {
    return await getJson('exports', { limit: 10 });
  } catch (error) {
    if (error.status !== 404 && error.status !== 403) throw error;
    hasJobs = false;
    return null;
  }
}

function complain(error) {
  refused = error.status === 403;
  if (refused) forget();
  byId('ranges').hidden = byId('plots').hidden = !summary;
  const words = el('p', '', refused ? t('scope_needed') : `${t('not_refreshed')} ${explain(error)}`);
  const another = say(button('link', () => askForKey('sign_in_admin').then(refresh)), 'sign_in');
  byId('notice').replaceChildren(words, ...(refused ? [el('p', '', el('code', '', command)), another] : []));
  byId('notice').hidden = false;
}

/** Clear what another key may have shown. */
function forget() {
  summary = null;
  series = {};
  byId('jobs').hidden = true;
  byId('tiles').replaceChildren();
  byId('updated').textContent = '';
}

function show() {
  byId('updated').textContent = t('updated', { time: clock(Date.parse(summary.at)) });
  byId('tiles').replaceChildren(...tiles().map(([name, value, detail]) => tile(name, value, detail)));
  for (const [name, plot] of Object.entries(plots)) plot.show(name === cache ? hitRate(series[name]) : series[name]);
  if (jobs) showJobs(jobs);
}

function hitRate({ lines: [hits, misses], ...rest }) {
  const values = hits.values.map((hit, index) => ratio(hit, misses.values[index]));
  return { ...rest, lines: [{ label: 'share', values }] };
}

const ratio = (hits, misses) => (hits + misses ? hits / (hits + misses) : null);

function tiles() {
  const [input, output] = sums('chatkeep_tokens_total');
  const rate = ratio(...sums(cache));
  const ever = (values) => t('all_time', { count: count(sum(Object.values(values))) });
  return [
    ['conversations', measured(summary.conversations, count), ''],
    ['generating', count(summary.replies_generating), t('workers_detail', { count: count(summary.workers) })],
    ['turns', count(whole('chatkeep_turns_total')), ever(summary.turns)],
    ['tokens', count(input + output), t('tokens_detail', { input: count(input), output: count(output) })],
    ['cache', rate === null ? '–' : share(rate), ''],
    ['errors', count(whole('chatkeep_provider_errors_total')), ever(summary.provider_errors)],
    ['expired', count(whole('chatkeep_expired_conversations_total')), ever([summary.expired_conversations])],
    ['storage', measured(summary.storage_bytes, bytes), ''],
  ];
}

const measured = (value, format) => (value === null ? '–' : format(value));
const sum = (values) => values.reduce((added, value) => added + value, 0);
const sums = (name) => series[name].lines.map(({ values }) => sum(values));
const whole = (name) => sum(sums(name));

function tile(name, value, detail) {
  const node = el('div', '', el('dt', '', t(name)), el('dd', '', value, el('div', 'detail', detail)));
  node.dataset.tile = name;
  return node;
}

function choose(name) {
  range = name;
  browser.write('admin-range', name);
  showRanges();
  refresh();
}

function showRanges() {
  byId('ranges').replaceChildren(...Object.keys(hours).map(rangeButton));
}

function rangeButton(name) {
  const node = button('', () => choose(name), t(`range_${name}`));
  node.setAttribute('aria-pressed', String(name === range));
  return node;
}

function repaint() {
  for (const plot of Object.values(plots)) plot.repaint();
}

function showLanguage() {
  translate();
  showRanges();
  showWho();
  if (summary) show();
}

async function learnWho() {
  meet(await whoAmI());
  showWho();
}

function showWho() {
  const name = currentWho()?.name;
  byId('sign-out').hidden = !name;
  byId('sign-out').title = name ?? '';
}

const refreshIfSeen = () => document.visibilityState === 'visible' && refresh();

if (!(range in hours)) range = '1h';
translate();
showRanges();
byId('plots').append(...Object.values(plots).map(({ node }) => node));
byId('language').addEventListener('click', switchLanguage);
byId('sign-out').addEventListener('click', () => leave().catch(complain));
addEventListener('language', showLanguage);
document.addEventListener('visibilitychange', refreshIfSeen);
addEventListener('online', refreshIfSeen);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
addEventListener('storage', () => requestAnimationFrame(repaint));
setInterval(() => refused || refreshIfSeen(), every);
whenLocked(() => askForKey(currentWho() ? 'sign_in_again' : 'sign_in_hint'));
learnWho().catch(complain);
refresh();
