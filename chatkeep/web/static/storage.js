/** The browser's storage. If it is full or denied, nothing is stored and the page still works. */

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
        // The page works without storage.
      }
    },
  };
}

/** Stored in this browser. */
export const browser = remembering('localStorage');

/** Stored in this tab, across reloads. */
export const tab = remembering('sessionStorage');
