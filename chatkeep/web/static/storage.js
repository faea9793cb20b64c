/** What the browser remembers. It may be full or forbidden: then nothing is remembered and the page goes on. */

const prefix = 'chatkeep.';

function remembering(area) {
  return {
    read(name, fallback) {
      try {
        return JSON.parse(window[area].getItem(prefix + name)) ?? fallback;
      } catch {
        return fallback;
      }
    },
    write(name, value) {
      try {
        if (value === null) window[area].removeItem(prefix + name);
        else window[area].setItem(prefix + name, JSON.stringify(value));
      } catch {
        // Without storage the page still works; it only forgets.
      }
    },
  };
}

/** Kept in this browser. */
export const browser = remembering('localStorage');

/** Kept in this tab, reloads included. */
export const tab = remembering('sessionStorage');
