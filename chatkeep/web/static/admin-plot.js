/** A plot of the admin page: drawn if possible, and always available as a table. */

import { canDraw, columns, draw, fit } from './admin-drawing.js';
import { clock, t } from './admin-i18n.js';
import { el } from './dom.js';

/**
 * A card with a title, a drawing and a table. `format` formats a value. With `perStep`, values are sums of intervals
 * and are drawn as stacked bars. `colours` has a number for each line.
 */
export class Plot {
  constructor({ name, format, perStep = false, colours = [1] }) {
    Object.assign(this, { name, format, perStep, colours });
    this.title = el('h2');
    this.drawing = el('div', canDraw ? 'drawing' : 'drawing bare');
    this.table = el('div', 'scroll');
    this.table.tabIndex = 0;
    this.details = el('details', '', el('summary'), this.table);
    this.details.open = !canDraw;
    this.details.addEventListener('toggle', () => this.lines && this.#fillTable());
    this.node = el('section', 'card', this.title, this.drawing, this.details);
    this.node.dataset.plot = name;
    new ResizeObserver(() => this.#resize()).observe(this.drawing);
  }

  /** Show a series of the API: `from`, `step` and `lines`. Empty lines are hidden. */
  show({ from, step, lines }) {
    const same = step === this.step;
    Object.assign(this, { start: Date.parse(from), step, lines: shown(lines) });
    const labels = this.lines.map(({ label }) => t(label ? `line_${label}` : this.name));
    if (!same || labels.join() !== this.labels?.join()) this.#forget();
    this.labels = labels;
    this.#name();
    this.#fillTable();
    this.#draw();
  }

  /** Redraw after a change of colours. */
  repaint() {
    this.#forget();
    if (this.lines) this.#draw();
  }

  /** Format a line's value. */
  written(index, at) {
    const value = this.lines[index].values[at];
    if (value === undefined) return '';
    return value === null ? '–' : this.format(value);
  }

  #name() {
    this.title.textContent = t(this.name);
    if (this.perStep) this.title.append(' ', el('small', '', t(`per_step_${this.step}`)));
    this.details.firstChild.textContent = t('table');
    this.table.setAttribute('aria-label', t(this.name));
  }

  #draw() {
    if (this.#isEmpty) {
      this.#forget();
      this.drawing.replaceChildren(el('p', 'nothing', t('nothing')));
    } else if (this.drawn) {
      this.drawn.setData(columns(this));
    } else {
      this.drawing.replaceChildren();
      this.drawn = canDraw ? draw(this) : null;
    }
  }

  get #isEmpty() {
    return this.lines.every(({ values }) => values.every((value) => value === null));
  }

  #forget() {
    this.drawn?.destroy();
    this.drawn = null;
  }

  #resize() {
    if (this.drawn && this.drawing.clientWidth) fit(this.drawn, this.drawing.clientWidth);
  }

  /** Newest first, without empty intervals. */
  #fillTable() {
    if (!this.details.open) return;
    const steps = [...this.lines[0].values.keys()].filter((at) => this.lines.some(({ values }) => values[at]));
    const head = el('tr', '', el('th', '', t('time')), ...this.labels.map((label) => el('th', 'number', label)));
    const body = el('tbody', '', ...steps.reverse().map((at) => this.#row(at)));
    const table = el('table', '', el('thead', '', head), body);
    this.table.replaceChildren(steps.length ? table : el('p', 'note', t('nothing')));
  }

  #row(at) {
    const cells = this.lines.map((_, index) => el('td', 'number', this.written(index, at)));
    return el('tr', '', el('td', '', clock(this.start + at * this.step * 1000, this.step)), ...cells);
  }
}

// Keep the first line, so that a plot always has one.
function shown(lines) {
  const placed = lines.map((line, place) => ({ ...line, place }));
  return placed.filter(({ values, place }) => place === 0 || values.some(Boolean));
}
