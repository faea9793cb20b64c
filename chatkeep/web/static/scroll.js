/** Follow the end of a growing text until the user scrolls up. */

import { isComposing } from './keys.js';

const near = 24;
const above = 80;
const page = 0.875;

/** Make Page Up and Page Down scroll `scroller` while the cursor is in a box that shows all of its text. */
export function turnPages(box, scroller) {
  box.addEventListener('keydown', (event) => {
    const pages = { PageUp: -1, PageDown: 1 }[event.key];
    if (!pages || event.shiftKey || event.ctrlKey || event.metaKey || event.altKey || isComposing(event)) return;
    if (box.scrollHeight > box.clientHeight) return;
    event.preventDefault();
    scroller.scrollBy(0, pages * page * scroller.clientHeight);
  });
}

/** Follows the end of `content` inside of `scroller`; `toEnd` is the button that scrolls back to the end. */
export class EndFollower {
  constructor(scroller, content, toEnd) {
    Object.assign(this, { scroller, toEnd, following: true, top: 0 });
    scroller.addEventListener('scroll', () => this.noteScroll(), { passive: true });
    scroller.addEventListener('wheel', ({ deltaY }) => deltaY < 0 && this.yield(), { passive: true });
    toEnd.addEventListener('click', () => this.goToEnd());
    const grown = new ResizeObserver(() => this.keepUp());
    grown.observe(content);
    grown.observe(scroller);
  }

  /** Scroll to the end and follow it. */
  goToEnd() {
    this.following = true;
    this.keepUp();
  }

  /** Scroll to a node, and stop following. */
  goTo(node) {
    this.following = false;
    this.scroller.scrollTop += node.getBoundingClientRect().top - this.scroller.getBoundingClientRect().top - above;
    this.top = this.scroller.scrollTop;
    this.showButton();
  }

  /** Run `change`, which adds content above, without moving the visible text. */
  holdStill(change) {
    const { scrollHeight, scrollTop } = this.scroller;
    change();
    this.scroller.scrollTop = scrollTop + this.scroller.scrollHeight - scrollHeight;
    this.top = this.scroller.scrollTop;
  }

  get distance() {
    return this.scroller.scrollHeight - this.scroller.clientHeight - this.scroller.scrollTop;
  }

  keepUp() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.top = this.scroller.scrollTop;
    this.showButton();
  }

  // Growing text also moves the end away, so only scrolling up, by any distance, is the user's intent.
  noteScroll() {
    const moved = this.scroller.scrollTop - this.top;
    if (moved < -1 && this.distance > 1) this.following = false;
    else if (moved > 0 && this.distance <= near) this.following = true;
    this.top = this.scroller.scrollTop;
    this.showButton();
  }

  // The next piece of text may arrive before the page has scrolled, and must not win.
  yield() {
    if (this.scroller.scrollHeight > this.scroller.clientHeight) this.following = false;
  }

  showButton() {
    this.toEnd.hidden = this.following || this.distance <= near;
  }
}
