// Names what the oldest browsers lack in scripts and style sheets: `node check.mjs FILE…`, a line for each finding.
//
// A script may use what they lack if it asks for it in the same file: `x.name?.()`, `x.name ??`, `'name' in x`, `typeof name`.
// A name that any of the scripts defines is taken for its own.
// A style sheet may use it in `@supports`, or behind an older declaration of the same property in the same rule.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { parse } from 'acorn';
import { full } from 'acorn-walk';
import * as css from 'css-tree';

const require = createRequire(import.meta.url);
const data = require('@mdn/browser-compat-data');
const OLDEST = require('./oldest.json');
const ECMASCRIPT = 2022; // the newest version of which none of them lacks any syntax
// What may be missing.
const ACCEPTED = new Map([
  ['.radius', 'an option of uPlot'],
  ['overflow-anchor', 'it switches off what Safari lacks'],
  ['contain: style', 'it only saves work'],
  ['content-visibility', 'the same'],
  ['.contentVisibility', 'the same'],
  ['.containIntrinsicBlockSize', 'the same'],
  ['::-webkit-search-cancel-button', 'Firefox has no such button'],
  ['user-select', 'uPlot sets it for Safari by its prefix'],
]);

const { builtins } = data.javascript;
const globals = { ...data.api, ...builtins };
const members = findMembers();
const findings = new Set();
const files = process.argv.slice(2);
const styles = files.filter((file) => file.endsWith('.css'));
const scripts = new Map(files.filter((file) => !styles.includes(file)).map((file) => [file, parseScript(file)]));
const own = namesDefined();

for (const [file, tree] of scripts) if (tree) checkScript(file, tree);
for (const file of styles) checkStyle(file);
for (const finding of findings) console.log(finding);
process.exitCode = findings.size ? 1 : 0;

function report(file, line, what, needs) {
  if (needs && !ACCEPTED.has(what)) findings.add(`${file}:${line}: ${what} needs ${needs}`);
}

// Returns the versions that a feature needs, of browsers whose oldest version lacks it; '' if there are none.
function lacking(feature) {
  const support = feature?.__compat?.support;
  return Object.entries(support ? OLDEST : {})
    .map(([browser, oldest]) => [browser, oldest, firstVersion(support[browser])])
    .filter(([, oldest, first]) => first > oldest)
    .map(([browser, , first]) => (first === Infinity ? `${browser} to come` : `${browser} ${first}`))
    .join(', ');
}

// Returns the version from which a browser has a feature, be it not all of it, by its own name and without a flag.
function firstVersion(support) {
  const versions = [support].flat()
    .filter((one) => one?.version_added && !one.prefix && !one.flags && !one.alternative_name)
    .filter((one) => !one.version_removed || one.partial_implementation)
    .map((one) => Number.parseFloat(one.version_added.replace('≤', '')) || Infinity);
  return Math.min(Infinity, ...versions);
}

// Returns what the name of a method or property needs: nothing if it is older in any interface, or in no browser.
function findMembers() {
  const found = new Map();
  const style = Object.fromEntries(Object.entries(data.css.properties).map(([name, it]) => [camelCase(name), it]));
  for (const owner of [style, ...Object.values(globals), ...Object.values(builtins.Intl)]) {
    for (const [name, feature] of Object.entries(owner)) {
      if (name.startsWith('__') || name.endsWith('_static') || found.get(name) === '') continue;
      const support = feature.__compat?.support ?? {};
      const somewhere = Object.keys(OLDEST).some((browser) => firstVersion(support[browser]) < Infinity);
      found.set(name, somewhere ? lacking(feature) : '');
    }
  }
  return found;
}

function camelCase(name) {
  return name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());
}

function parseScript(file) {
  try {
    return parse(readFileSync(file, 'utf8'), { ecmaVersion: ECMASCRIPT, sourceType: 'module', locations: true });
  } catch (error) {
    report(file, error.loc?.line, error.message, `ECMAScript after ${ECMASCRIPT}`);
    return null;
  }
}

function namesDefined() {
  const names = new Set();
  for (const tree of [...scripts.values()].filter(Boolean)) {
    full(tree, ({ key, computed, id, left }) => {
      if (key && !computed) names.add(key.name ?? key.value);
      if (id) names.add(id.name);
      if (left?.object?.type === 'ThisExpression') names.add(left.property.name);
    });
  }
  return names;
}

function namesAskedFor(tree) {
  const names = new Set();
  full(tree, ({ type, operator, left, test, argument, optional, callee }) => {
    if (operator === 'in') names.add(left.value);
    if (operator === 'typeof') names.add(argument.name ?? argument.property?.name);
    if (type === 'LogicalExpression') names.add(left.property?.name);
    if (test) names.add(test.property?.name);
    if (optional && callee) names.add(callee.property?.name);
  });
  return names;
}

function checkScript(file, tree) {
  const asked = namesAskedFor(tree);
  full(tree, ({ type, loc, object, property, computed, callee }) => {
    if (type === 'MemberExpression' && !computed && !asked.has(property.name)) {
      const { name } = property;
      const feature = globals[object.name]?.[`${name}_static`];
      if (feature) report(file, loc.start.line, `${object.name}.${name}`, lacking(feature));
      else if (!own.has(name)) report(file, loc.start.line, `.${name}`, members.get(name));
    }
    if (callee?.type === 'Identifier' && !own.has(callee.name) && !asked.has(callee.name)) {
      report(file, loc.start.line, callee.name, lacking(globals[callee.name]));
    }
  });
}

function checkStyle(file) {
  const onParseError = ({ line, message }) => report(file, line, message, 'newer syntax');
  const tree = css.parse(readFileSync(file, 'utf8'), { positions: true, parseCustomProperty: true, onParseError });
  const { properties, selectors, types, 'at-rules': rules } = data.css;
  const functions = Object.assign({}, types, ...Object.values(types));
  const check = (node, what, feature) => report(file, node.loc.start.line, what, lacking(feature));

  function checkDeclaration(node, block) {
    const property = properties[node.property] ?? {};
    const before = block?.children.toArray().slice(0, block.children.toArray().indexOf(node)) ?? [];
    if (before.some((one) => one.property === node.property)) return;
    if (ACCEPTED.has(node.property)) return;
    check(node, node.property, property);
    css.walk(node.value, ({ type, name, value }) => {
      if (type === 'Function') check(node, `${name}()`, property[name] ?? functions[name]);
      if (type === 'Identifier') check(node, `${node.property}: ${name}`, property[name]);
      if (type === 'Operator' && value === '/' && node.property === 'content') {
        check(node, 'content with /', property.alt_text);
      }
    });
  }

  css.walk(tree, {
    enter(node) {
      if (node.type === 'Atrule' && node.name === 'supports') return css.walk.skip;
      if (node.type === 'Atrule') check(node, `@${node.name}`, rules[node.name]);
      if (node.type === 'PseudoClassSelector') check(node, `:${node.name}`, selectors[node.name]);
      if (node.type === 'PseudoElementSelector') check(node, `::${node.name}`, selectors[node.name]);
      if (node.type === 'NestingSelector') check(node, '&', selectors.nesting);
      if (node.type === 'Rule' && this.rule) check(node, 'a rule in a rule', selectors.nesting);
      if (node.type === 'Feature') check(node, node.name, rules.media[node.name]);
      if (node.type === 'FeatureRange') check(node, 'a range', rules.media.range_syntax);
      if (node.type === 'Declaration') checkDeclaration(node, this.block);
      return undefined;
    },
  });
}
