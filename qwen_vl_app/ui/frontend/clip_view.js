/* The clip view: a player, the times that an answer names, and the frames that the model saw. A click goes to its time.
 *
 * Knows seconds. Where the browser cannot play the clip, the frames stand alone, and a click only marks them.
 */

const instances = new WeakMap();
const clips = (window.qvlClips ??= new Set()); // those on the page now

/* The element of the page's own document that a part of it lies in. */
function hostOf(node) {
  let root = node.getRootNode();
  while (root instanceof ShadowRoot) {
    node = root.host;
    root = node.getRootNode();
  }
  return node;
}

export default function clipView(component) {
  let shown = instances.get(component.parentElement);
  if (!shown) {
    shown = new ClipView(component.parentElement);
    instances.set(component.parentElement, shown);
  }
  shown.update(component.data);
  return () => shown.leave();
}

class ClipView {
  constructor(parent) {
    this.view = element("div", { class: "clip", "data-testid": "clip-view" });
    parent.append(this.view);
    this.told = "";
    this.onClick = (event) => this.hear(event);
  }

  /* Times in the words above are links to "#clip-time-SECOND". The nearest clip below them hears a click. */
  hear(event) {
    const link = event.composedPath().find((each) => each instanceof HTMLAnchorElement);
    const second = /#clip-time-([0-9.]+)$/.exec(link?.getAttribute("href") ?? "");
    if (!second || !this.isBelow(link)) return;
    event.preventDefault(); // the address stays what it is
    event.stopPropagation();
    this.goTo(Number(second[1]));
  }

  isBelow(link) {
    const here = hostOf(this.view);
    const isAfter = (node) => Boolean(link.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING);
    if (!isAfter(here)) return false;
    return ![...clips].some((other) => other !== this && isAfter(hostOf(other.view))
      && Boolean(hostOf(other.view).compareDocumentPosition(here) & Node.DOCUMENT_POSITION_FOLLOWING));
  }

  update(data) {
    document.addEventListener("click", this.onClick, true); // once, however often it is said
    clips.add(this);
    const told = JSON.stringify(data);
    if (told === this.told) return; // drawn anew by the page, and still playing
    this.told = told;
    this.data = data;
    this.start = 0; // a clip that was cut out of a longer one begins later on the clock of some browsers
    this.isGone = false;
    this.draw();
  }

  leave() {
    document.removeEventListener("click", this.onClick, true);
    clips.delete(this);
    this.player?.pause();
  }

  draw() {
    const { labels, player, frames, events } = this.data;
    this.problem = element("p", { class: "note", text: labels.problem, hidden: Boolean(player), role: "status" });
    this.player = null;
    if (player) {
      this.player = element("video", {
        src: player, controls: true, preload: "metadata", playsinline: true, "aria-label": labels.play, "data-testid": "clip-player",
        on: {
          error: () => this.giveUp(),
          loadedmetadata: (event) => { if (!event.target.videoWidth) this.giveUp(); },
          loadeddata: (event) => { if (!this.isGone) this.start = event.target.currentTime; },
          timeupdate: (event) => this.mark(event.target.currentTime - this.start),
          seeking: (event) => this.mark(event.target.currentTime - this.start),
        },
      });
      this.player.muted = true; // the model hears nothing, and nobody expects sound from an answer
    }
    this.eventButtons = events.map((event) =>
      element("button", { type: "button", class: "event", "aria-label": event.label, title: event.label, on: { click: () => this.goTo(event.at) } },
        element("span", { class: "time", text: event.time }), element("span", { class: "what", text: event.what })));
    this.frameButtons = frames.map((frame, number) => this.frame(frame, number));
    this.view.replaceChildren(
      ...[
        this.player,
        this.problem,
        events.length ? element("div", { class: "events", role: "group", "aria-label": labels.events }, ...this.eventButtons) : null,
        element("p", { class: "note", text: labels.frames }),
        element("div", { class: "strip", role: "group", "aria-label": labels.frames }, ...this.frameButtons),
        element("p", { class: "note", text: labels.verify }),
      ].filter(Boolean),
    );
    this.mark(0);
  }

  frame(frame, number) {
    const { sheet, columns, ratio, frames } = this.data;
    const rows = Math.ceil(frames.length / columns);
    const picture = element("span", { class: "picture" });
    picture.style.aspectRatio = `${ratio}`;
    picture.style.backgroundImage = `url("${sheet}")`;
    picture.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
    const along = (place, count) => (count > 1 ? `${(place / (count - 1)) * 100}%` : "0%");
    picture.style.backgroundPosition = `${along(number % columns, columns)} ${along(Math.floor(number / columns), rows)}`;
    return element("button", { type: "button", class: "frame", "aria-label": frame.label, title: frame.label, on: { click: () => this.goTo(frame.at) } },
      picture, element("span", { class: "time", text: frame.time }));
  }

  goTo(seconds) {
    this.isGone = true;
    if (this.player) {
      this.player.pause();
      this.player.currentTime = this.start + seconds;
    }
    this.mark(seconds);
  }

  /* Say which frame the model saw last at this time, and which event it is. */
  mark(seconds) {
    const { frames, events } = this.data;
    let latest = 0;
    frames.forEach((frame, number) => { if (frame.at <= seconds + 0.05) latest = number; });
    const set = (button, isCurrent) => (isCurrent ? button.setAttribute("aria-current", "true") : button.removeAttribute("aria-current"));
    this.frameButtons.forEach((button, number) => set(button, number === latest));
    this.eventButtons.forEach((button, number) => {
      const { at, end } = events[number];
      set(button, at <= seconds + 0.05 && seconds <= (end ?? at) + 0.5);
    });
  }

  giveUp() {
    this.player?.remove();
    this.player = null;
    this.problem.hidden = false;
  }
}
