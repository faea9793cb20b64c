/**
 * The theme. This classic script is before the styles, so that a dark page never flashes light. The root's `data-theme`
 * is "light" or "dark": the user's choice, or else the system's. A `theme` event changes it.
 */
(() => {
  const name = 'chatkeep.theme';
  const grounds = { light: '#fbfbf9', dark: '#171918' };
  const systemIsDark = matchMedia('(prefers-color-scheme: dark)');

  function stored() {
    try {
      return JSON.parse(localStorage.getItem(name));
    } catch {
      return null;
    }
  }

  function apply(chosen) {
    const theme = chosen in grounds ? chosen : systemIsDark.matches ? 'dark' : 'light';
    document.documentElement.dataset.theme = theme;
    document.querySelector('meta[name="color-scheme"]').content = theme;
    document.querySelector('meta[name="theme-color"]').content = grounds[theme];
  }

  apply(stored());
  addEventListener('theme', (event) => apply(event.detail));
  addEventListener('storage', (event) => event.key === name && apply(stored()));
  systemIsDark.addEventListener('change', () => apply(stored()));
})();
