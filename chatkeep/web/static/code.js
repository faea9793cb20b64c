/** Code blocks: a caption, a copy button, and highlighting when the block is complete. */

import { copyFrom } from './copy.js';
import { button, el, icon } from './dom.js';
import { label, say } from './i18n.js';
import { hasLibraries, importLibrary, sanitised } from './libraries.js';

// Longer blocks are not highlighted, because that would block the page.
const longest = 16_000;
const languages = new Set(
  ('bash c cpp csharp css diff dockerfile go ini java javascript json kotlin lua makefile markdown nginx php powershell ' +
    'python r ruby rust sql swift typescript xml yaml').split(' '),
);
const aliases = {
  'c#': 'csharp', 'c++': 'cpp', cs: 'csharp', docker: 'dockerfile', golang: 'go', html: 'xml', js: 'javascript',
  jsx: 'javascript', kt: 'kotlin', make: 'makefile', md: 'markdown', mjs: 'javascript', ps1: 'powershell', py: 'python',
  rb: 'ruby', rs: 'rust', sh: 'bash', shell: 'bash', svg: 'xml', toml: 'ini', ts: 'typescript', tsx: 'typescript',
  vue: 'xml', yml: 'yaml', zsh: 'bash',
};
let turn = Promise.resolve();

/** Return a block around a `code` element. `language` is from the text. */
export function codeFigure(code, language) {
  const caption = el('figcaption', '', language ? el('span', '', language) : say(el('span'), 'code'), copyButton());
  const pre = el('pre', '', code);
  // Focusable, so that keys scroll a wide block.
  pre.tabIndex = 0;
  const figure = el('figure', 'code', caption, pre);
  if (language) figure.dataset.language = language.toLowerCase();
  return figure;
}

/** Make the buttons of all blocks inside of `root` copy their code. */
export function listenForCopies(root) {
  root.addEventListener('click', ({ target }) => {
    const pressed = target.closest('.copy-code');
    if (pressed) copyFrom(pressed, pressed.closest('figure').querySelector('code').textContent);
  });
}

/** Highlight `node` and the blocks inside of it, one by one, when the page is idle. */
export function colour(node) {
  const figures = node.matches('figure.code') ? [node] : node.querySelectorAll('figure.code');
  for (const figure of hasLibraries ? figures : []) {
    const language = aliases[figure.dataset.language] ?? figure.dataset.language;
    const code = figure.querySelector('code');
    if (languages.has(language) && code.textContent.length <= longest) turn = turn.then(() => colourOne(code, language));
  }
}

async function colourOne(code, language) {
  try {
    const [{ default: core }, { default: grammar }] = await Promise.all([
      importLibrary('highlight/core.js'),
      importLibrary(`highlight/${language}.js`),
    ]);
    if (!core.getLanguage(language)) core.registerLanguage(language, grammar);
    await idle();
    const { value } = core.highlight(code.textContent, { language, ignoreIllegals: true });
    code.replaceChildren(sanitised(value));
  } catch (error) {
    console.warn('This code has no colours.', error);
  }
}

const idle = () => new Promise((resolve) => (window.requestIdleCallback ?? setTimeout)(resolve, { timeout: 500 }));

function copyButton() {
  return label(button('tool copy-code', () => {}, icon('copy')), 'copy');
}
