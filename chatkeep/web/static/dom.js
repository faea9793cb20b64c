/** Create elements and icons from nodes and text, never from markup. */

/** Return the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Return a new element with a class and children (nodes or strings). */
export function el(tag, className = '', ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Return a copy of an icon in the template. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Return a new button that calls `act` when it is clicked. */
export function button(className, act, ...children) {
  const node = el('button', className, ...children);
  node.type = 'button';
  node.addEventListener('click', act);
  return node;
}
