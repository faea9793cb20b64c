/** Update visible nodes to equal new ones with few changes, so that selections are kept. */

/** Make `old`, the last children of `parent`, equal to `fresh`. Return the resulting nodes. */
export function morph(parent, old, fresh) {
  const shown = fresh.map((node, index) => (old[index] ? morphNode(old[index], node) : parent.appendChild(node)));
  for (const node of old.slice(fresh.length)) node.remove();
  return shown;
}

function morphNode(old, fresh) {
  // A typeset formula has other nodes inside. It is the same formula as long as its source is.
  if (old.nodeName !== fresh.nodeName || old.dataset?.source !== fresh.dataset?.source) return old.replaceWith(fresh), fresh;
  if (old.dataset?.source) return old;
  if (old.nodeType === Node.TEXT_NODE) morphText(old, fresh.data);
  else morphElement(old, fresh);
  return old;
}

function morphText(node, text) {
  if (text === node.data) return;
  if (text.startsWith(node.data)) node.appendData(text.slice(node.length));
  else node.data = text;
}

function morphElement(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  morph(old, [...old.childNodes], [...fresh.childNodes]);
}
