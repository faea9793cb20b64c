/**
 * The reader's theme. This classic script stands before the styles, so that a page that is dark is never shown light.
 * The root's `data-theme` is "light" or "dark"; without it the system decides. A `theme` event changes it.
 */
(() => {
  const name = 'chatkeep.theme';
  const grounds = { light: '#fbfbf9', dark: '#171918' };

  function stored() {
    try {
      return JSON.parse(localStorage.getItem(name));
    } catch {
      return null;
    }
  }

  const systemOf = ({ media }) => (media.includes('dark') ? 'dark' : 'light');
  const metas = (kind) => document.querySelectorAll(`meta[name="${kind}"]`);

  function apply(theme) {
    if (theme in grounds) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    for (const meta of metas('color-scheme')) meta.content = theme in grounds ? theme : 'light dark';
    for (const meta of metas('theme-color')) meta.content = grounds[theme in grounds ? theme : systemOf(meta)];
  }

  apply(stored());
  addEventListener('theme', (event) => apply(event.detail));
  addEventListener('storage', (event) => event.key === name && apply(stored()));
})();
