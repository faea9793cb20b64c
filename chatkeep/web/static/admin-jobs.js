/** Export jobs with their progress, if the server has export jobs. */

import { bytes, count, t } from './admin-i18n.js';
import { byId, el } from './dom.js';
import { moment } from './i18n.js';

const section = byId('jobs');
const table = section.querySelector('table');

/** Show the API's list of jobs, newest first. */
export function showJobs({ data }) {
  const names = ['created', 'format', 'status', 'progress', 'size'];
  const head = el('tr', '', ...names.map((name) => el('th', '', t(`job_${name}`))));
  const rows = data.length ? data.map(row) : [el('tr', '', none())];
  table.replaceChildren(el('thead', '', head), el('tbody', '', ...rows));
  section.hidden = false;
}

function row(job) {
  const format = job.compression && job.compression !== 'none' ? `${job.format}, ${job.compression}` : job.format;
  const size = job.size ? bytes(job.size) : '';
  const cells = [moment(job.created_at), format, t(`job_${job.status}`), progress(job), size];
  return el('tr', '', ...cells.map((cell) => el('td', '', cell)));
}

function progress({ status, progress: { conversations, total_conversations: total } }) {
  const words = total ? `${count(conversations)} / ${count(total)}` : count(conversations);
  if (status !== 'running' || !total) return words;
  const bar = el('progress');
  Object.assign(bar, { max: total, value: Math.min(conversations, total) });
  bar.setAttribute('aria-label', t('job_progress'));
  return el('span', '', bar, ` ${words}`);
}

function none() {
  const cell = el('td', '', t('no_jobs'));
  cell.colSpan = 5;
  return cell;
}
