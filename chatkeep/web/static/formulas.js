/** Find TeX formulas in Markdown, as an extension of the parser. Pure. */

// Longer ones stay source text. Code has precedence: no formula contains a backtick.
const inDollars = /^\$((?:\\[^]|[^\\$`]){1,4000}?)\$/;
const inTwoDollars = /^\$\$(?!\$)((?:\\[^]|[^\\$`]|\$(?!\$)){1,4000}?)\$\$(?:[.,;](?!\w))?/;
const inParentheses = /^\\\(((?:\\(?![()])[^]|[^\\`]){1,4000}?)\\\)/;
const inBrackets = /^\\\[((?:\\(?![\[\]])[^]|[^\\`]){1,4000}?)\\\](?:[.,;](?!\w))?/;
const parts = /^(?:\$\$?|\\[([])([^]*?)(?:\$\$?|\\[)\]])([.,;]?)$/;
const opening = /\$|\\[([]/;
const displayed = /^ {0,3}(?=\$\$|\\\[)/;
const displayedNext = /\n {0,3}(?:\$\$|\\\[)/;
// Unfinished formulas: display and inline.
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

// Its lines are never a list, heading or emphasis, even before its end has arrived.
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

/** Return the parser's extension. `show(source)` and `showOpen(text)` return HTML. */
export const extension = ({ show, showOpen }) => ({
  extensions: [
    { ...inline, renderer: ({ raw }) => show(raw) },
    { ...block, renderer: ({ formula, open }) => (open ? showOpen(open) : `<p>${show(formula)}</p>\n`) },
  ],
  // Characters of a formula neither begin nor end emphasis.
  hooks: { emStrongMask: masked },
});

/** Return the TeX of a formula, with the punctuation after a display formula. */
export const texOf = (source) => parts.exec(source).slice(1).join('');

/** Whether a formula is a display formula. */
export const isDisplayed = (source) => displayed.test(source);

/** Mask the formulas of a text, and drop an unfinished one at its end, so that it can be split anywhere. */
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

// "$5 and $10", "US$5 or US$6" and "$HOME/$USER" are not formulas; "H$_2$O" and "$n$th" contain one.
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
