/** Keeps the end of the text in sight while it grows, until the reader scrolls up. */

const near = 24;

/** Follow the end of `content` inside of `scroller`; `toEnd` is the button that takes the reader back. */
export class EndFollower {
  constructor(scroller, content, toEnd) {
    Object.assign(this, { scroller, toEnd, following: true, top: 0 });
    scroller.addEventListener('scroll', () => this.noteScroll(), { passive: true });
    toEnd.addEventListener('click', () => this.goToEnd());
    const grown = new ResizeObserver(() => this.keepUp());
    grown.observe(content);
    grown.observe(scroller);
  }

  /** Show the end and follow it from now on. */
  goToEnd() {
    this.following = true;
    this.keepUp();
  }

  /** Run `change`, which adds content above, without moving what the reader sees. */
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

  // Text that grows moves the end away too; only moving up is the reader's wish.
  noteScroll() {
    if (this.distance <= near) this.following = true;
    else if (this.scroller.scrollTop < this.top - 1) this.following = false;
    this.top = this.scroller.scrollTop;
    this.showButton();
  }

  showButton() {
    this.toEnd.hidden = this.following || this.distance <= near;
  }
}
