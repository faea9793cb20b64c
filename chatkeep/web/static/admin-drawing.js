/** Draw plots with uPlot in the stylesheet's colours. A checkout may lack the library: the wheel's build adds it. */

import { clock, count } from './admin-i18n.js';
import { el } from './dom.js';
import { currentLanguage } from './i18n.js';

const height = 190;
const digits = [...Array(12).keys()].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
const probe = document.body.appendChild(el('i'));
probe.hidden = true;

mendLanguage();
const uPlot = document.querySelector('#plots[data-drawn]')
  ? await import('./vendor/uplot.js').then((module) => module.default, noteMissing)
  : null;

/** Whether the library is available. */
export const canDraw = uPlot !== null;

/** Draw a `Plot` into its node. Return the drawing, with `setData`, `setSize` and `destroy`. */
export function draw(plot) {
  const drawing = new uPlot(options(plot), columns(plot), plot.drawing);
  drawing.root.setAttribute('aria-hidden', 'true');
  return drawing;
}

/** Return the data for `setData`: the times in seconds, and the values of each line. */
export function columns({ start, step, lines, perStep }) {
  const times = lines[0].values.map((_, index) => start / 1000 + index * step);
  return [times, ...(perStep ? stacked(lines) : lines.map(({ values }) => values))];
}

/** Resize a drawing to the width of its node. */
export const fit = (drawing, width) => drawing.setSize({ width, height });

function options(plot) {
  const { step, perStep } = plot;
  return {
    width: plot.drawing.clientWidth || 300,
    height,
    series: [{ label: '', value: (_, at) => (at === null ? '' : clock(at * 1000, step)) }, ...strokes(plot)],
    axes: axes(plot),
    scales: {
      x: { range: (_, first, last) => [first, last + (perStep ? step : 0)] },
      y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] },
    },
    cursor: { sync: { key: 'time' }, drag: { x: false, y: false }, y: false, ...(perStep && onBars) },
    legend: { markers: { width: 0, fill: (drawing, index) => drawing.series[index].stroke(drawing, index) } },
  };
}

function axes({ format }) {
  const grid = { stroke: colour('line'), width: 1 };
  const axis = { stroke: colour('soft'), grid, ticks: { show: false }, font: '11px system-ui' };
  return [
    { ...axis, values: (_, times) => times.map((at) => clock(at * 1000, spacing(times))), space: 64, size: 28 },
    { ...axis, values: (_, values) => values.map(format), size: 56, ...(format === count && { incrs: digits }) },
  ];
}

function strokes(plot) {
  return plot.lines.map(({ place }, index) => {
    const stroke = colour(`plot-${plot.colours[place]}`);
    const value = (_drawing, _value, _line, at) => plot.written(index, at);
    return { label: plot.labels[index], stroke, value, ...(plot.perStep ? bars(stroke) : line(stroke, index === 0)) };
  });
}

// Stack each line on the later ones, which are drawn over it, so that rare values are visible at the bottom.
function stacked(lines) {
  const sums = lines.map(({ values }) => [...values]);
  for (let place = sums.length - 2; place >= 0; place--) sums[place] = added(sums[place], sums[place + 1]);
  return sums;
}

const added = (values, others) => values.map((value, at) => value + others[at]);

// A bar begins at its time, so the pointer is on the bar before it.
const onBars = {
  dataIdx: (drawing, _line, nearest, at) => (nearest > 0 && drawing.data[0][nearest] > at ? nearest - 1 : nearest),
  points: { show: false },
};

function bars(fill) {
  return { fill, width: 0, paths: uPlot.paths.bars({ size: [0.8, 32], align: 1 }), points: { show: false } };
}

// A line needs two adjacent samples. A single one is a point.
const line = (stroke, filled) => ({
  width: 1.75,
  fill: filled ? faint(stroke) : undefined,
  points: { size: 6, width: 0, fill: stroke, show: true, filter: (drawing, index) => alone(drawing.data[index]) },
});

function alone(values) {
  const has = (at) => typeof values[at] === 'number';
  return [...values.keys()].filter((at) => has(at) && !has(at - 1) && !has(at + 1));
}

/** Format an axis' marks, with the day if they are days apart. */
function spacing(times) {
  const apart = times.length > 1 ? times[1] - times[0] : 0;
  return apart >= 86_400 ? 86_400 : 60;
}

// Resolve a CSS variable, because a canvas can't.
function colour(name) {
  probe.hidden = false;
  probe.style.color = `var(--${name})`;
  const found = getComputedStyle(probe).color;
  probe.hidden = true;
  return found;
}

// uPlot formats numbers in the browser's language, which on some systems is invalid: "C", "en-US@posix".
function mendLanguage() {
  try {
    Intl.getCanonicalLocales(navigator.language);
  } catch {
    Object.defineProperty(navigator, 'language', { value: currentLanguage() });
  }
}

function noteMissing(error) {
  console.warn('Without uPlot there are tables only.', error);
  return null;
}

const faint = (rgb) => rgb.replace(/^rgb\((.*)\)$/, 'rgb($1, 0.1)');
