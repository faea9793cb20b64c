/** TeX formulas in Markdown: where they are, and what only looks like one. Extends the parser; pure. */

// Longer ones stay as they are written. Code comes first: no formula holds a backtick.
const inDollars = /^\$((?:\\[^]|[^\\$`]){1,4000}?)\$/;
const inTwoDollars = /^\$\$(?!\$)((?:\\[^]|[^\\$`]|\$(?!\$)){1,4000}?)\$\$(?:[.,;](?!\w))?/;
const inParentheses = /^\\\(((?:\\(?![()])[^]|[^\\`]){1,4000}?)\\\)/;
const inBrackets = /^\\\[((?:\\(?![\[\]])[^]|[^\\`]){1,4000}?)\\\](?:[.,;](?!\w))?/;
const parts = /^(?:\$\$?|\\[([])([^]*?)(?:\$\$?|\\[)\]])([.,;]?)$/;
const opening = /\$|\\[([]/;
const displayed = /^ {0,3}(?=\$\$|\\\[)/;
const displayedNext = /\n {0,3}(?:\$\$|\\\[)/;
// Formulas whose end has not come yet: one on lines of its own, and one amid a text.
const openDisplay = /^(?:\$\$(?!\$)(?:\\[^]|[^\\$`]|\$(?!\$)){0,4000}|\\\[(?:\\(?![\[\]])[^]|[^\\`]){0,4000})\\?$/;
const mayOpen = /\$(?![\s\d$])|\\[([]/;
const openFor = 500;
const emptyLine = /\n[ \t]*\n/;
// An amount, then words or another sentence: "$5 for one and 9$ for two", "$5 一个，9$", "$2k; 9$".
const money = /^\d[^\\^_=]*(?:\s\p{L}{2}|\p{Script=Han}|[;:!?]\s)/u;
const noBegin = /^[\s)\],;:!?"'”’]/;
const ordinal = /^(?:st|nd|rd|th|s)(?!\w)/;
const signs = /[\\$]/g;

const inline = {
  name: 'formula',
  level: 'inline',
  start: (text) => text.search(opening),
  tokenizer(text, tokens) {
    const raw = formulaAt(text, tokens.at(-1)?.raw.at(-1));
    return raw && { type: 'formula', raw };
  },
};

// Its lines are no list, heading or emphasis, whatever they begin with; also while the end has not come yet.
const block = {
  name: 'display',
  level: 'block',
  start: (text) => text.search(displayedNext),
  tokenizer(text) {
    const indent = displayed.exec(text)?.[0];
    if (indent === undefined) return undefined;
    const rest = text.slice(indent.length);
    const formula = formulaAt(rest);
    if (formula) return { type: 'display', raw: indent + formula + /^[ \t]*\n?/.exec(rest.slice(formula.length)), formula };
    const open = this.lexer.options.growing && openDisplay.test(rest) && !(rest[0] === '$' && emptyLine.test(rest));
    return open ? { type: 'display', raw: text, open: text } : undefined;
  },
};

/** What the parser needs to know formulas; `show(source)` and `showOpen(text)` return their HTML. */
export const extension = ({ show, showOpen }) => ({
  extensions: [
    { ...inline, renderer: ({ raw }) => show(raw) },
    { ...block, renderer: ({ formula, open }) => (open ? showOpen(open) : `<p>${show(formula)}</p>\n`) },
  ],
  // The signs of a formula begin and end no emphasis.
  hooks: { emStrongMask: masked },
});

/** Return the TeX of a formula, with the punctuation that follows one on lines of its own. */
export const texOf = (source) => parts.exec(source).slice(1).join('');

/** Whether a formula stands on lines of its own. */
export const isDisplayed = (source) => displayed.test(source);

/** Return a text in which formulas are masked, without one at its end that may be open: it can be cut anywhere. */
export function cuttable(text) {
  const shown = masked(text);
  const from = Math.max(shown.lastIndexOf('`') + 1, shown.length - openFor);
  const at = shown.slice(from).search(mayOpen);
  return at < 0 ? shown : shown.slice(0, from + at);
}

function formulaAt(text, before = '') {
  if (text.startsWith('$$')) return twoDollars(text, before);
  if (text.startsWith('$')) return dollars(text, before);
  return inParentheses.exec(text)?.[0] ?? brackets(text);
}

// "$5 and $10", "US$5 or US$6" and "$HOME/$USER" are none; "H$_2$O" and "$n$th" hold one.
function dollars(text, before) {
  const [raw, tex] = inDollars.exec(text) ?? [];
  if (!raw || noBegin.test(tex) || /\s$/.test(tex) || money.test(tex)) return undefined;
  const after = text.slice(raw.length, raw.length + 3);
  if (/^[\\^_]/.test(tex)) return after[0] === '$' ? undefined : raw;
  return /[\w$]/.test(before) || (/^[\w${]/.test(after) && !ordinal.test(after)) ? undefined : raw;
}

function twoDollars(text, before) {
  const [raw, tex] = inTwoDollars.exec(text) ?? [];
  if (!raw || !tex.trim() || emptyLine.test(tex)) return undefined;
  return /[\w$]/.test(before + (text[raw.length] ?? '')) ? undefined : raw;
}

// "\[1\]" is a number in brackets, and "\[x\](y)" a bracket before a parenthesis.
function brackets(text) {
  const [raw, tex] = inBrackets.exec(text) ?? [];
  return !raw || /^[\d\s,–-]*$/.test(tex) || text[raw.length] === '(' ? undefined : raw;
}

function masked(text) {
  const pieces = [];
  let done = 0;
  signs.lastIndex = 0;
  for (let found; (found = signs.exec(text)); ) {
    const { index } = found;
    const raw = formulaAt(text.slice(index), text[index - 1]);
    if (raw) pieces.push(text.slice(done, index), 'x'.repeat(raw.length));
    if (raw) done = index + raw.length;
    signs.lastIndex = raw ? done : index + (text[index] === '\\' ? 2 : 1);
  }
  return pieces.join('') + text.slice(done);
}
