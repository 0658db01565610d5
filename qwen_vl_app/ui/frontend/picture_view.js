/* The picture view: a picture at full resolution, the places on it, and a person's corrections of them.
 *
 * Knows pixels of the original, which is what Python tells and is told. Python draws and cuts what is taken away. What is
 * not saved yet lives beside the elements and in this tab, for Streamlit may draw them anew.
 */

const drafts = (window.qvlPictureDrafts ??= new Map());
const instances = new WeakMap();
const KEPT = "qvl-places-";
const SIDES = ["left", "top", "right", "bottom"];
const HANDLES = [[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1], [0.5, 1], [0, 1], [0, 0.5]];
const CURSORS = ["nwse", "ns", "nesw", "ew", "nwse", "ns", "nesw", "ew"];
const MOST_ZOOM = 32; // CSS pixels for one of the original
const MOST_CHIPS = 24;
const MANY = 25; // more places than this stand under their numbers alone

export default function pictureView(component) {
  let shown = instances.get(component.parentElement);
  if (!shown) {
    shown = new PictureView(component.parentElement);
    instances.set(component.parentElement, shown);
  }
  shown.update(component.data, component.setTriggerValue);
  return () => shown.leave();
}

const ICONS = {
  zoom_in: "M12 5v14M5 12h14",
  zoom_out: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  large: "M14 4h6v6M10 20H4v-6M20 4l-7 7M4 20l7-7",
  small: "M20 10h-6V4M4 14h6v6M14 10l6-6M10 14l-6 6",
  correct: "M4 20l4-1L19 8l-3-3L5 16zM14 7l3 3",
  add: "M4 8V4h4M20 8V4h-4M4 16v4h4M12 12v8M8 16h8M20 12v4",
  undo: "M9 7L4 12l5 5M4 12h10a6 6 0 0 1 6 6",
  remove: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  cut: "M7 2v15h15M2 7h15v15",
  take_away: "M12 4v11M7 10.5l5 5 5-5M4.5 19.5h15",
  close: "M6 6l12 12M18 6L6 18",
  restore: "M5 12a7 7 0 1 0 2-5L5 9M5 4v5h5",
};
const icon = (name) => lineDrawing(ICONS[name], 17, 1.9);

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const isEditable = (target) => target instanceof HTMLInputElement && target.type !== "checkbox";
const copy = (places) => places.map((place) => ({ ...place, box: [...place.box] }));
const isSame = (one, other) => one.label === other.label && one.box.every((side, at) => side === other.box[at]);

class PictureView {
  constructor(parent) {
    this.parent = parent;
    this.scale = 0; // 0: not laid out yet
    this.isFitted = true;
    this.offset = [0, 0];
    this.pointers = new Map();
    this.hovered = null;
    this.selected = null;
    this.hidden = new Set();
    this.isEditing = this.isAdding = this.isSeen = this.isModels = false;
    this.past = [];
    this.build();
  }

  build() {
    this.badge = element("span", { class: "badge" });
    this.seenBox = element("input", { type: "checkbox", on: { change: () => this.showSeen(this.seenBox.checked) } });
    this.seenWords = element("span");
    this.labelsBox = element("input", { type: "checkbox", on: { change: () => { this.areLabels = this.labelsBox.checked; this.draw(); } } });
    this.labelsWords = element("span");
    this.largeButton = this.tool("large", () => this.toggleLarge());
    this.image = element("img", { draggable: "false", alt: "", on: {
      load: () => { this.problem.hidden = true; },
      error: () => { this.problem.hidden = false; },
    } });
    this.shapes = drawn("svg", { "aria-hidden": "true" });
    this.problem = element("p", { class: "problem", role: "alert", hidden: true });
    this.hint = element("p", { class: "hint", role: "status" });
    this.stage = element("div", {
      class: "stage", tabindex: "0", role: "application", "data-testid": "picture-stage",
      on: {
        pointerdown: (event) => this.onDown(event), pointermove: (event) => this.onMove(event),
        pointerup: (event) => this.onUp(event), pointercancel: (event) => this.onUp(event),
        pointerleave: () => this.hover(null), dblclick: (event) => this.zoomAt(this.at(event), 2),
        keydown: (event) => this.onKey(event), focus: () => this.sayHint(""),
      },
    }, this.image, this.shapes, this.problem, this.hint);
    this.stage.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.zoomTools = element("div", { class: "zoom" },
      this.tool("zoom_in", () => this.zoomAt(this.middle(), 1.5)), this.tool("zoom_out", () => this.zoomAt(this.middle(), 1 / 1.5)),
      this.tool("fit", () => this.fit()), this.fullButton = element("button", { type: "button", class: "tool words", text: "1:1", on: { click: () => this.full() } }), this.largeButton);
    this.legend = element("div", { class: "legend", role: "group" });
    this.rows = element("div", { class: "rows" });
    this.note = element("p", { class: "note" });
    this.tools = element("div", { class: "tools" });
    this.side = element("div", { class: "side" }, this.legend, this.rows, this.note, this.tools);
    this.acts = element("div", { class: "acts" });
    this.root = element("section", { class: "view" },
      element("div", { class: "head" }, this.badge,
        element("label", { class: "toggle" }, this.seenBox, this.seenWords),
        element("label", { class: "toggle" }, this.labelsBox, this.labelsWords), this.zoomTools),
      element("div", { class: "main" }, element("div", { class: "frame" }, this.stage), this.side), this.acts);
    this.root.addEventListener("keydown", (event) => {
      // Streamlit has one-letter keys of its own; and what is typed into a field is no command.
      if (event.key !== "Tab" && !(event.key === "Escape" && !this.dialog)) event.stopPropagation();
    });
    this.parent.append(this.root);
    this.watcher = new ResizeObserver(() => this.layOut());
  }

  tool(name, act) {
    return element("button", { type: "button", class: "tool", "data-name": name, on: { click: act } }, icon(name));
  }

  leave() {
    this.watcher.disconnect(); // it may be drawn again at once, with other data
  }

  /* What Python tells */

  update(data, setTriggerValue) {
    const isFirst = !this.data;
    const isOther = !isFirst && (this.data.key !== data.key || this.data.version !== data.version);
    this.data = data;
    this.tell = setTriggerValue;
    this.watcher.observe(this.stage);
    const say = data.labels;
    if (isFirst || isOther) {
      this.base = data.places.map((place, at) => ({ ...place, id: at }));
      this.models = data.model.map((place, at) => ({ ...place, id: at, of: at + 1 }));
      this.nextId = this.base.length;
      this.places = this.draft() ?? copy(this.base);
      this.colours = null;
      this.past = [];
      this.isModels = false;
      if (!this.places.some((place) => place.id === this.selected)) this.selected = null;
      if (isFirst) this.isEditing = this.isChanged();
      if (isFirst) this.areLabels = this.places.length <= MANY;
      this.image.src = data.view;
    }
    this.badge.textContent = data.badge;
    this.root.classList.toggle("bare", Boolean(data.is_bare));
    this.rows.hidden = this.note.hidden = this.labelsBox.parentElement.hidden = Boolean(data.is_bare);
    this.seenWords.textContent = say.as_seen;
    this.labelsWords.textContent = say.labels;
    this.labelsBox.checked = this.areLabels;
    this.labelsBox.parentElement.title = say.labels_toggle;
    this.problem.textContent = say.unreadable;
    this.stage.setAttribute("aria-label", say.viewport.replace("{name}", data.name));
    this.root.setAttribute("aria-label", data.name);
    this.legend.setAttribute("aria-label", say.places);
    for (const button of this.zoomTools.querySelectorAll("[data-name]")) this.name(button, say[button.dataset.name] ?? "");
    const acts = data.acts ?? [];
    if (acts.some((act, at) => this.acts.children[at]?.textContent !== say[act])) { // else the focus would be lost
      this.acts.replaceChildren(...acts.map((act) => element("button", {
        type: "button", "data-name": act, on: { click: () => this.tell("did", { act }) },
      }, icon(act), element("span", { text: say[act] }))));
    }
    this.name(this.fullButton, say.full);
    this.name(this.largeButton, this.dialog ? say.small : say.large);
    this.stage.style.setProperty("--shape", `${data.width} / ${data.height}`);
    this.layOut();
    this.refresh();
  }

  name(button, label) {
    button.title = label;
    button.setAttribute("aria-label", label);
  }

  draft() {
    let kept = drafts.get(this.data.key);
    try {
      kept ??= JSON.parse(sessionStorage.getItem(KEPT + this.data.key) ?? "null");
    } catch {
      kept = null;
    }
    if (!kept || kept.version !== this.data.version || !Array.isArray(kept.places)) {
      drafts.delete(this.data.key); // saved meanwhile, or of a version that is no more
      sessionStorage.removeItem(KEPT + this.data.key);
      return null;
    }
    this.nextId = 1 + Math.max(this.nextId, ...kept.places.map((place) => place.id));
    return kept.places;
  }

  keep() {
    const kept = this.isChanged() ? { version: this.data.version, places: this.places } : null;
    if (kept) drafts.set(this.data.key, kept);
    else drafts.delete(this.data.key);
    try {
      if (kept && !this.data.is_private) sessionStorage.setItem(KEPT + this.data.key, JSON.stringify(kept));
      else sessionStorage.removeItem(KEPT + this.data.key);
    } catch {
      // a full store: the draft lives as long as the tab
    }
  }

  isChanged() {
    return this.places.length !== this.base.length
      || this.places.some((place, at) => place.of !== this.base[at].of || !isSame(place, this.base[at]));
  }

  /* What is on the screen: scale, offset */

  get shown() { return this.isModels ? this.models : this.places; }
  get visible() { return this.shown.filter((place) => !this.hidden.has(place.label)); }
  size() { return [this.stage.clientWidth, this.stage.clientHeight]; }
  middle() { return this.size().map((side) => side / 2); }
  fitScale() {
    const [wide, high] = this.size();
    return Math.min(wide / this.data.width, high / this.data.height);
  }

  layOut() {
    if (!this.data || !this.stage.clientWidth) return;
    const before = this.scale;
    if (this.isFitted || !before) this.scale = this.fitScale();
    this.settle();
  }

  fit() { this.isFitted = true; this.scale = this.fitScale(); this.settle(); }
  full() { this.zoomAt(this.middle(), 1 / devicePixelRatio / this.scale); }

  zoomAt([x, y], factor) {
    const least = Math.min(this.fitScale(), 1 / devicePixelRatio);
    const scale = clamp(this.scale * factor, least, Math.max(MOST_ZOOM, least));
    const ratio = scale / this.scale;
    this.offset = [x - (x - this.offset[0]) * ratio, y - (y - this.offset[1]) * ratio];
    this.scale = scale;
    this.isFitted = Math.abs(scale / this.fitScale() - 1) < 0.01;
    this.settle();
  }

  pan(dx, dy) { this.offset = [this.offset[0] + dx, this.offset[1] + dy]; this.settle(); }

  /* The picture never leaves its frame: what is smaller stands in the middle. */
  settle() {
    const sides = [this.data.width, this.data.height];
    this.size().forEach((room, axis) => {
      const side = sides[axis] * this.scale;
      this.offset[axis] = side <= room ? (room - side) / 2 : clamp(this.offset[axis], room - side, 0);
    });
    Object.assign(this.image.style, {
      width: `${sides[0]}px`, height: `${sides[1]}px`,
      transform: `translate(${this.offset[0]}px, ${this.offset[1]}px) scale(${this.scale})`,
      imageRendering: this.scale * devicePixelRatio > 2 ? "pixelated" : "auto",
    });
    // A finger scrolls the page until there is something to move here.
    const isOurs = !this.isFitted || this.isEditing || this.dialog;
    this.stage.style.touchAction = isOurs ? "none" : "pan-y";
    this.draw();
  }

  onScreen([x, y]) { return [this.offset[0] + x * this.scale, this.offset[1] + y * this.scale]; }
  inPicture([x, y]) { return [(x - this.offset[0]) / this.scale, (y - this.offset[1]) / this.scale]; }

  showSeen(isSeen) {
    this.isSeen = this.seenBox.checked = isSeen;
    this.image.src = isSeen ? this.data.seen : this.data.view;
  }

  toggleLarge() {
    if (this.dialog) {
      this.dialog.close();
      return;
    }
    const dialog = element("dialog", { "aria-label": this.data.name });
    dialog.addEventListener("close", () => {
      this.parent.append(this.root);
      dialog.remove();
      this.dialog = null;
      this.isFitted = true;
      this.root.classList.remove("large");
      this.largeButton.replaceChildren(icon("large"));
      this.name(this.largeButton, this.data.labels.large);
      this.layOut();
      this.largeButton.focus();
    });
    this.parent.append(dialog);
    dialog.append(this.root);
    this.dialog = dialog;
    this.root.classList.add("large");
    this.largeButton.replaceChildren(icon("small"));
    this.name(this.largeButton, this.data.labels.small);
    dialog.showModal();
    this.isFitted = true;
    this.layOut();
    this.stage.focus();
  }

  /* Shapes */

  colour(label) {
    if (!this.colours?.has(label)) {
      const names = [...new Set([...this.base, ...this.models, ...this.places].map((place) => place.label))];
      this.colours = new Map(names.map((name, at) => [name, this.data.palette[at % this.data.palette.length]]));
    }
    return this.colours.get(label);
  }

  /* Once a frame, however often a pointer moves in it. */
  draw() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.drawNow(); });
    this.linkCut();
  }

  drawNow() {
    if (!this.scale) return;
    const made = [];
    const lit = [];
    const [wide, high] = this.size();
    this.shown.forEach((place, at) => {
      if (this.hidden.has(place.label)) return;
      const [x1, y1] = this.onScreen(place.box);
      const [x2, y2] = this.onScreen(place.box.slice(2));
      if (x2 < -40 || y2 < -40 || x1 > wide + 40 || y1 > high + 40) return;
      const isLit = place.id === this.selected || place.id === this.hovered;
      (isLit ? lit : made).push(this.shape(place, at + 1, [x1, y1, x2, y2], isLit));
    });
    if (this.drawing) lit.push(drawn("rect", { class: "new", ...this.rectangle(this.drawing.flatMap((point) => this.onScreen(point))) }));
    const chosen = this.chosen();
    if (this.isEditing && !this.isModels && chosen && !this.hidden.has(chosen.label)) lit.push(...this.handles(chosen));
    this.shapes.replaceChildren(...made, ...lit);
  }

  rectangle([x1, y1, x2, y2]) {
    return { x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1) };
  }

  shape(place, number, corners, isLit) {
    const [red, green, blue] = this.colour(place.label);
    const colour = `rgb(${red} ${green} ${blue})`;
    const ink = 0.299 * red + 0.587 * green + 0.114 * blue > 110 ? "#000" : "#fff";
    const group = drawn("g", { class: isLit ? "lit" : "", "data-place": number });
    if (place.point) {
      const [cx, cy] = corners;
      group.append(drawn("circle", { cx, cy, r: isLit ? 8 : 6, fill: colour, stroke: ink, "stroke-width": 2 }));
    } else {
      const sides = this.rectangle(corners);
      const thick = isLit ? 3.5 : 2;
      group.append(
        drawn("rect", { ...sides, fill: isLit ? `rgb(${red} ${green} ${blue} / 16%)` : "none", stroke: ink, "stroke-width": thick + 2, opacity: 0.75 }),
        drawn("rect", { ...sides, fill: "none", stroke: colour, "stroke-width": thick }),
      );
      if (place.of === null || this.isCorrected(place)) group.lastChild.setAttribute("stroke-dasharray", "7 4");
    }
    const said = this.areLabels || isLit ? `${number} ${short(place.label)}`.trim() : `${number}`;
    const grown = letterSize() / 12;
    const wide = (widthOf(said) + 8) * grown;
    const high = 18 * grown;
    // Among very many, a number that would cover its own box waits until one zooms in.
    const isCrowded = this.shown.length > MANY && !isLit && !this.areLabels;
    if (isCrowded && (corners[2] - corners[0] < 1.3 * wide || corners[3] - corners[1] < 30 * grown)) return group;
    const [room] = this.size();
    const x = clamp(corners[0] - 1, 0, Math.max(0, room - wide));
    const above = corners[1] - high - 1;
    const y = above < 0 ? Math.max(0, Math.min(corners[1] + 1, this.size()[1] - high)) : above;
    const word = drawn("text", { x: x + 4 * grown, y: y + 13 * grown, fill: ink });
    word.textContent = said;
    group.append(drawn("rect", { x, y, width: wide, height: high, rx: 2, fill: colour }), word);
    return group;
  }

  handles(place) {
    if (place.point) return [];
    const [x1, y1] = this.onScreen(place.box);
    const [x2, y2] = this.onScreen(place.box.slice(2));
    return HANDLES.map(([h, v]) => drawn("rect", {
      class: "handle", x: x1 + (x2 - x1) * h - 5, y: y1 + (y2 - y1) * v - 5, width: 10, height: 10, rx: 2,
    }));
  }

  isCorrected(place) {
    const own = place.of === null ? null : this.models[place.of - 1];
    return !!own && !isSame(own, place);
  }

  /* Pointers */

  at(event) {
    const bounds = this.stage.getBoundingClientRect();
    return [event.clientX - bounds.left, event.clientY - bounds.top];
  }

  /* The smallest place under a point: what lies inside another can be reached. */
  under([x, y], reach = 4) {
    let best = null;
    let least = Infinity;
    for (const place of this.visible) {
      const [x1, y1] = this.onScreen(place.box);
      const [x2, y2] = this.onScreen(place.box.slice(2));
      const around = place.point ? 10 : reach;
      const area = (x2 - x1) * (y2 - y1);
      if (x >= x1 - around && x <= x2 + around && y >= y1 - around && y <= y2 + around && area < least) [best, least] = [place, area];
    }
    return best;
  }

  handleUnder([x, y], reach) {
    const place = this.chosen();
    if (!this.isEditing || this.isModels || !place || place.point || this.hidden.has(place.label)) return -1;
    const [x1, y1] = this.onScreen(place.box);
    const [x2, y2] = this.onScreen(place.box.slice(2));
    return HANDLES.findIndex(([h, v]) => Math.abs(x1 + (x2 - x1) * h - x) <= reach && Math.abs(y1 + (y2 - y1) * v - y) <= reach);
  }

  onDown(event) {
    if (event.button > 0) return;
    this.stage.setPointerCapture(event.pointerId);
    const at = this.at(event);
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) {
      this.undoGesture();
      this.gesture = { kind: "pinch" };
      return;
    }
    if (this.pointers.size > 2) return;
    const reach = event.pointerType === "mouse" ? 8 : 18;
    const handle = this.handleUnder(at, reach);
    const hit = this.under(at, event.pointerType === "mouse" ? 4 : 12);
    if (this.isAdding) this.gesture = { kind: "add", start: at };
    else if (handle >= 0) this.gesture = { kind: "size", start: at, handle, before: copy(this.places), box: [...this.chosen().box] };
    else if (this.isEditing && !this.isModels && hit && hit.id === this.selected) this.gesture = { kind: "move", start: at, before: copy(this.places), box: [...hit.box] };
    else this.gesture = { kind: "pan", start: at, last: at, hit };
  }

  undoGesture() {
    if (this.gesture?.before) this.places = this.gesture.before;
    this.drawing = null;
  }

  onMove(event) {
    const at = this.at(event);
    const last = this.pointers.get(event.pointerId);
    if (!last) {
      if (event.pointerType === "mouse") this.point(at);
      return;
    }
    if (this.gesture?.kind === "pinch" && this.pointers.size === 2) {
      const [one, two] = [...this.pointers.values()];
      this.pointers.set(event.pointerId, at);
      const [newOne, newTwo] = [...this.pointers.values()];
      const between = (a, b) => Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1]));
      const centre = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
      const [from, to] = [centre(one, two), centre(newOne, newTwo)];
      this.pan(to[0] - from[0], to[1] - from[1]);
      this.zoomAt(to, between(newOne, newTwo) / between(one, two));
      return;
    }
    this.pointers.set(event.pointerId, at);
    const gesture = this.gesture;
    if (!gesture || gesture.kind === "pinch") return;
    gesture.isMoved ||= Math.hypot(at[0] - gesture.start[0], at[1] - gesture.start[1]) > 4;
    if (!gesture.isMoved) return;
    const [dx, dy] = [(at[0] - gesture.start[0]) / this.scale, (at[1] - gesture.start[1]) / this.scale];
    if (gesture.kind === "pan") {
      this.pan(at[0] - gesture.last[0], at[1] - gesture.last[1]);
      gesture.last = at;
    } else if (gesture.kind === "add") {
      this.drawing = [this.inside(this.inPicture(gesture.start)), this.inside(this.inPicture(at))];
      this.draw();
    } else if (gesture.kind === "move") {
      this.chosen().box = this.moved(gesture.box, dx, dy);
      this.draw();
    } else {
      this.chosen().box = this.resized(gesture.box, HANDLES[gesture.handle], dx, dy);
      this.draw();
    }
  }

  onUp(event) {
    this.pointers.delete(event.pointerId);
    const gesture = this.gesture;
    if (this.pointers.size) return; // the other finger of a pinch
    this.gesture = null;
    if (!gesture || event.type === "pointercancel") {
      this.undoGesture();
      this.draw();
      return;
    }
    if (gesture.kind === "pan" && !gesture.isMoved) this.choose(gesture.hit?.id ?? null);
    if (gesture.kind === "add") this.addDrawn();
    if (gesture.before && gesture.isMoved) this.changed(gesture.before);
  }

  point(at) {
    const handle = this.handleUnder(at, 8);
    const hit = this.under(at);
    const canMove = this.isEditing && !this.isModels && hit && hit.id === this.selected;
    this.stage.style.cursor = this.isAdding ? "crosshair" : handle >= 0 ? `${CURSORS[handle]}-resize` : canMove ? "move" : hit ? "pointer" : this.isFitted ? "default" : "grab";
    this.hover(hit?.id ?? null);
  }

  onWheel(event) {
    const isActive = event.ctrlKey || event.metaKey || this.dialog || this.data.is_bare || this.root.getRootNode().activeElement === this.stage;
    if (!isActive) {
      this.sayHint(this.data.labels.wheel);
      return;
    }
    event.preventDefault();
    const step = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    this.zoomAt(this.at(event), Math.exp(-clamp(step, -200, 200) / (event.ctrlKey ? 120 : 300)));
  }

  sayHint(said) {
    clearTimeout(this.hintTimer);
    this.hint.textContent = said;
    if (said) this.hintTimer = setTimeout(() => { this.hint.textContent = ""; }, 1800);
  }

  /* Keys */

  onKey(event) {
    if (isEditable(event.target)) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const chosen = this.chosen();
    const canChange = this.isEditing && !this.isModels && chosen;
    const act = {
      "+": () => this.zoomAt(this.middle(), 1.5), "=": () => this.zoomAt(this.middle(), 1.5), "-": () => this.zoomAt(this.middle(), 1 / 1.5),
      "0": () => this.fit(), "1": () => this.full(),
      f: () => this.toggleLarge(), l: () => { this.areLabels = this.labelsBox.checked = !this.areLabels; this.draw(); },
      Delete: canChange && (() => this.remove(chosen)), Backspace: canChange && (() => this.remove(chosen)),
    }[event.key];
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
      event.preventDefault();
      this.undo();
    } else if (step && canChange) {
      event.preventDefault();
      this.nudge(chosen, step.map((each) => each * (event.ctrlKey || event.metaKey ? 10 : 1)), event.shiftKey);
    } else if (step) {
      event.preventDefault();
      this.pan(-step[0] * 60, -step[1] * 60);
    } else if (event.key === "Escape") {
      this.onEscape(event);
    } else if (act && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      act();
    }
  }

  onEscape(event) {
    if (this.isAdding) {
      this.isAdding = false;
      this.refresh();
    } else if (this.selected !== null) {
      this.choose(null);
    } else {
      return; // the large view closes by itself
    }
    event.preventDefault();
    event.stopPropagation();
  }

  nudge(place, [dx, dy], isSize) {
    const before = copy(this.places);
    place.box = isSize && !place.point ? this.resized(place.box, [dx ? 1 : 0.5, dy ? 1 : 0.5], dx, dy) : this.moved(place.box, dx, dy);
    this.changed(before, { canJoin: true });
  }

  /* Geometry of corrections: whole pixels of the original */

  inside([x, y]) { return [clamp(Math.round(x), 0, this.data.width), clamp(Math.round(y), 0, this.data.height)]; }

  moved([x1, y1, x2, y2], dx, dy) {
    const mx = clamp(Math.round(dx), -x1, this.data.width - x2);
    const my = clamp(Math.round(dy), -y1, this.data.height - y2);
    return [x1 + mx, y1 + my, x2 + mx, y2 + my];
  }

  resized(box, [h, v], dx, dy) {
    const [x1, y1, x2, y2] = box;
    const made = [...box];
    if (h === 0) made[0] = clamp(Math.round(x1 + dx), 0, x2 - 1);
    if (h === 1) made[2] = clamp(Math.round(x2 + dx), x1 + 1, this.data.width);
    if (v === 0) made[1] = clamp(Math.round(y1 + dy), 0, y2 - 1);
    if (v === 1) made[3] = clamp(Math.round(y2 + dy), y1 + 1, this.data.height);
    return made;
  }

  /* Choosing and changing */

  chosen() { return this.shown.find((place) => place.id === this.selected) ?? null; }

  hover(id) {
    if (this.hovered === id) return;
    this.hovered = id;
    this.mark();
    this.draw();
  }

  choose(id, { isFromRow = false } = {}) {
    this.selected = id;
    if (this.isEditing) this.refresh();
    else this.mark();
    const chosen = this.chosen();
    if (chosen && isFromRow) this.bringIntoView(chosen);
    if (chosen && !isFromRow) this.scrollToRow(id);
    this.draw();
    this.drawTools();
  }

  bringIntoView(place) {
    if (this.isFitted) return;
    const [x1, y1] = this.onScreen(place.box);
    const [x2, y2] = this.onScreen(place.box.slice(2));
    const [wide, high] = this.size();
    if (x1 >= 0 && y1 >= 0 && x2 <= wide && y2 <= high) return;
    this.pan(wide / 2 - (x1 + x2) / 2, high / 2 - (y1 + y2) / 2);
  }

  scrollToRow(id) {
    const row = this.rows.querySelector(`[data-id="${id}"]`);
    if (!row) return;
    const [top, room] = [row.offsetTop, this.rows.clientHeight];
    if (top < this.rows.scrollTop || top + row.offsetHeight > this.rows.scrollTop + room) this.rows.scrollTop = top - room / 2;
  }

  mark() {
    for (const row of this.rows.querySelectorAll("tr[data-id]")) {
      row.classList.toggle("hovered", row.dataset.id === String(this.hovered));
      row.classList.toggle("chosen", row.dataset.id === String(this.selected));
      row.querySelector("button.number")?.setAttribute("aria-pressed", row.dataset.id === String(this.selected));
    }
  }

  changed(before, { canJoin = false } = {}) {
    const isJoined = canJoin && this.joined === this.selected && this.past.length;
    if (!isJoined) this.past.push(before);
    this.joined = canJoin ? this.selected : null;
    this.keep();
    this.refresh();
    this.draw();
  }

  undo() {
    if (!this.isEditing || !this.past.length) return;
    this.places = this.past.pop();
    this.joined = null;
    this.keep();
    this.refresh();
    this.draw();
  }

  addDrawn() {
    const [from, to] = this.drawing ?? [];
    this.drawing = null;
    if (from) {
      const box = [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
      if (box[2] > box[0] && box[3] > box[1]) this.add(box);
    }
    this.draw();
  }

  add(box) {
    const before = copy(this.places);
    const label = this.chosen()?.label ?? this.places.at(-1)?.label ?? "";
    const place = { id: this.nextId++, of: null, label, box, point: false, doubts: [] };
    this.places.push(place);
    this.selected = place.id;
    this.isAdding = false;
    this.hidden.delete(label);
    this.changed(before);
    this.scrollToRow(place.id);
    this.rows.querySelector(`[data-focus="${place.id}-label"]`)?.select();
  }

  /* By keyboard: a box in the middle of what is shown, to be moved from there. */
  addInMiddle() {
    const [x, y] = this.inPicture(this.middle());
    const side = Math.max(2, Math.min(this.data.width, this.data.height, 120 / this.scale) / 2);
    const [from, to] = [this.inside([x - side, y - side]), this.inside([x + side, y + side])];
    this.add([...from, ...to]);
  }

  remove(place) {
    const before = copy(this.places);
    this.places.splice(this.places.indexOf(place), 1);
    this.selected = null;
    this.changed(before);
    this.stage.focus({ preventScroll: true });
  }

  restore(of) {
    const before = copy(this.places);
    const own = { ...this.models[of - 1], box: [...this.models[of - 1].box], id: this.nextId++ };
    const at = this.places.findIndex((place) => place.of === of);
    if (at >= 0) {
      own.id = this.places[at].id;
      this.places[at] = own;
    } else {
      const next = this.places.findIndex((place) => place.of === null || place.of > of);
      this.places.splice(next < 0 ? this.places.length : next, 0, own);
    }
    this.selected = own.id;
    this.changed(before);
  }

  restoreAll() {
    const before = copy(this.places);
    this.places = copy(this.models).map((place) => ({ ...place, id: this.nextId++ }));
    this.selected = null;
    this.changed(before);
  }

  save() {
    const places = this.places.map((place) => ({
      of: place.of, label: place.label, ...(place.point ? { point: place.box.slice(0, 2) } : { box: place.box }),
    }));
    this.isEditing = this.isAdding = false;
    this.tell("saved", { version: this.data.version, places });
  }

  discard() {
    this.places = copy(this.base);
    this.past = [];
    this.selected = null;
    this.isEditing = this.isAdding = false;
    this.keep();
    this.refresh();
    this.settle();
  }

  /* Rows, legend, tools */

  refresh() {
    const root = this.root.getRootNode();
    const focused = root.activeElement?.dataset?.focus;
    this.drawLegend();
    this.drawRows();
    this.drawTools();
    if (focused) this.root.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  drawLegend() {
    const say = this.data.labels;
    const counts = new Map();
    for (const place of this.shown) counts.set(place.label, (counts.get(place.label) ?? 0) + 1);
    const names = [...counts.keys()];
    this.legend.hidden = !names.length;
    // Lines of text are all called differently: a wall of names helps nobody, and the rows have them.
    const chips = names.slice(0, MOST_CHIPS).map((label, at) => {
      const named = label || say.no_label;
      const count = counts.get(label);
      return element("button", {
        type: "button", class: "chip", "aria-pressed": String(!this.hidden.has(label)), title: say.only.replace("{label}", named),
        "data-focus": `label-${at}`, on: { click: () => this.toggleLabel(label) },
      }, this.swatch(label), element("span", { text: short(named) }), element("span", { class: "count", text: String(count) }));
    });
    if (names.length > 1) {
      chips.push(element("button", { type: "button", class: "chip quiet", text: say.show_all, "data-focus": "all", on: { click: () => this.showOnly(new Set()) } }));
      chips.push(element("button", { type: "button", class: "chip quiet", text: say.show_none, "data-focus": "none", on: { click: () => this.showOnly(new Set(names)) } }));
    }
    this.legend.replaceChildren(...chips);
  }

  swatch(label) {
    return element("span", { class: "swatch", "aria-hidden": "true", style: `background: rgb(${this.colour(label).join(" ")})` });
  }

  toggleLabel(label) {
    if (!this.hidden.delete(label)) this.hidden.add(label);
    this.showOnly(this.hidden);
  }

  showOnly(hidden) {
    this.hidden = hidden;
    this.refresh();
    this.draw();
  }

  drawRows() {
    const say = this.data.labels;
    const scrolled = this.rows.scrollTop;
    const head = element("tr", {}, element("th", { scope: "col", text: say.number }), element("th", { scope: "col", text: say.what }),
      ...SIDES.map((side) => element("th", { scope: "col", class: "figure", text: say[side] })));
    const body = this.shown.map((place, at) => this.row(place, at + 1));
    if (this.isEditing && !this.isModels) body.push(...this.removedRows());
    const table = element("table", { "aria-label": say.places }, element("thead", {}, head), element("tbody", {}, ...body));
    this.rows.replaceChildren(body.length ? table : element("p", { class: "note", text: say.no_places }));
    this.rows.scrollTop = scrolled;
    this.note.textContent = this.isModels ? say.models_shown : this.data.pixels;
    this.mark();
  }

  row(place, number) {
    const say = this.data.labels;
    const isOpen = this.isEditing && !this.isModels && place.id === this.selected;
    const [left, top, right, bottom] = place.box;
    const described = say.row.replace("{number}", number).replace("{label}", () => place.label || say.no_label)
      .replace("{left}", left).replace("{top}", top).replace("{right}", right).replace("{bottom}", bottom);
    const button = element("button", {
      type: "button", class: "number", "aria-label": described, "data-focus": `${place.id}-number`,
      on: { click: (event) => { event.stopPropagation(); this.choose(this.selected === place.id ? null : place.id, { isFromRow: true }); }, focus: () => this.hover(place.id), blur: () => this.hover(null), keydown: (event) => this.onKey(event) },
    }, this.swatch(place.label), element("span", { text: String(number) }));
    const what = element("td", { class: "what" }, isOpen ? this.labelField(place) : element("span", { class: "words", text: place.label || "–" }), this.marks(place, isOpen));
    const figures = place.box.map((value, at) => element("td", { class: "figure" }, isOpen && !(place.point && at > 1) ? this.sideField(place, at) : element("span", { text: String(value) })));
    const row = element("tr", { "data-id": place.id, class: this.hidden.has(place.label) ? "off" : "", on: {
      pointerenter: () => this.hover(place.id), pointerleave: () => this.hover(null),
      click: () => { if (!isOpen) this.choose(this.selected === place.id ? null : place.id, { isFromRow: true }); },
    } }, element("td", {}, button), what, ...figures);
    return row;
  }

  marks(place, isOpen) {
    const say = this.data.labels;
    const marks = element("span", { class: "marks" });
    if (!this.isModels && place.of === null) marks.append(element("span", { class: "mark", text: say.mark_added }));
    if (!this.isModels && this.isCorrected(place)) marks.append(element("span", { class: "mark", text: say.mark_corrected }));
    for (const doubt of this.isCorrected(place) ? [] : place.doubts) {
      marks.append(element("span", { class: "doubt", text: `${say.check}: ${doubt}` }));
    }
    if (isOpen && this.isCorrected(place)) marks.append(this.rowTool("restore", say.restore, place, () => this.restore(place.of)));
    if (isOpen) marks.append(this.rowTool("remove", say.remove, place, () => this.remove(place)));
    return marks.childElementCount ? marks : null;
  }

  rowTool(name, label, place, act) {
    return element("button", {
      type: "button", class: "tool small", title: label, "aria-label": label, "data-focus": `${place.id}-${name}`,
      on: { click: (event) => { event.stopPropagation(); act(); } },
    }, icon(name));
  }

  removedRows() {
    const say = this.data.labels;
    const there = new Set(this.places.map((place) => place.of));
    return this.models.filter((own) => !there.has(own.of)).map((own) => element("tr", { class: "removed" },
      element("td", {}, this.rowTool("restore", say.restore, own, () => this.restore(own.of))),
      element("td", { class: "what" }, element("s", { text: own.label || "–" }), element("span", { class: "marks" }, element("span", { class: "mark", text: say.mark_removed }))),
      ...own.box.map((value) => element("td", { class: "figure" }, element("s", { text: String(value) })))));
  }

  labelField(place) {
    const say = this.data.labels;
    const names = [...new Set([...this.places, ...this.models].map((each) => each.label).filter(Boolean))];
    const list = element("datalist", { id: "names" }, ...names.map((value) => element("option", { value })));
    const field = element("input", {
      type: "text", value: place.label, maxlength: 500, list: "names", "aria-label": say.label, "data-focus": `${place.id}-label`,
      on: { change: () => { const before = copy(this.places); place.label = field.value.replace(/\s+/g, " ").trim(); if (place.label !== before.find((each) => each.id === place.id)?.label) this.changed(before); } },
    });
    return element("span", { class: "field" }, field, list);
  }

  sideField(place, at) {
    const field = element("input", {
      type: "number", value: place.box[at], min: 0, max: at % 2 ? this.data.height : this.data.width, step: 1,
      "aria-label": this.data.labels[SIDES[at]], "data-focus": `${place.id}-${SIDES[at]}`,
      on: { change: () => {
        const before = copy(this.places);
        place.box = this.withSide(place, at, Math.round(Number(field.value)) || 0);
        this.changed(before);
      } },
    });
    return field;
  }

  withSide(place, at, value) {
    const { width, height } = this.data;
    const most = at % 2 ? height : width;
    const box = [...place.box];
    if (place.point) {
      box[at] = box[at + 2] = clamp(value, 0, most);
      return box;
    }
    box[at] = at < 2 ? clamp(value, 0, box[at + 2] - 1) : clamp(value, box[at - 2] + 1, most);
    return box;
  }

  drawTools() {
    const say = this.data.labels;
    const made = [];
    const button = (name, act, { label = say[name], icon: shape = name, ...more } = {}) =>
      element("button", { type: "button", class: "act", "data-focus": name, on: { click: act }, ...more }, ICONS[shape] ? icon(shape) : null, element("span", { text: label }));
    const isChanged = this.isChanged();
    if (this.data.can_correct && !this.isModels && !this.isEditing) {
      made.push(button("correct", () => { this.isEditing = true; this.refresh(); this.settle(); }));
    }
    if (this.isEditing && !this.isModels) {
      made.push(button("add", (event) => {
        if (event.detail === 0) return this.addInMiddle(); // pressed by key
        this.isAdding = !this.isAdding;
        this.sayHint(this.isAdding ? say.add_how : "");
        this.refresh();
      }, { "aria-pressed": String(this.isAdding) }));
      made.push(button("undo", () => this.undo(), { disabled: !this.past.length }));
      if (this.places.length !== this.models.length || this.places.some((place) => place.of === null || this.isCorrected(place))) {
        made.push(button("restore_all", () => this.restoreAll(), { icon: "restore" }));
      }
      if (isChanged) {
        made.push(button("save", () => this.save(), { class: "act main" }), button("discard", () => this.discard()));
      } else {
        made.push(button("correct_done", () => { this.isEditing = this.isAdding = false; this.refresh(); this.settle(); }));
      }
    }
    if (this.data.is_corrected && !this.isEditing) {
      made.push(button("models", () => { this.isModels = !this.isModels; this.selected = null; this.refresh(); this.draw(); }, { "aria-pressed": String(this.isModels) }));
    }
    if (this.data.cut) {
      this.cutLink = element("a", { class: "act", download: "", "data-focus": "cut" }, icon("cut"), element("span"));
      made.push(this.cutLink);
    }
    if (isChanged && !this.isModels) made.push(element("span", { class: "note", role: "status", text: say.unsaved }));
    if (this.isEditing) made.push(element("span", { class: "note keys", text: say.editing }));
    const root = this.root.getRootNode();
    const focused = this.tools.contains(root.activeElement) ? root.activeElement.dataset.focus : null;
    this.tools.replaceChildren(...made);
    if (focused) this.tools.querySelector(`[data-focus="${focused}"]`)?.focus({ preventScroll: true });
    this.linkCut();
  }

  linkCut() {
    if (!this.cutLink) return;
    const chosen = this.chosen();
    const [wide, high] = this.size();
    const [left, top] = this.inPicture([0, 0]).map(Math.floor);
    const [right, bottom] = this.inPicture([wide, high]).map(Math.ceil);
    const shown = [...this.inside([left, top]), ...this.inside([right, bottom])];
    const box = chosen && !chosen.point ? chosen.box : shown;
    this.cutLink.lastChild.textContent = chosen && !chosen.point ? this.data.labels.cut_place : this.data.labels.cut_shown;
    this.cutLink.href = `${this.data.cut}?${new URLSearchParams({ box: box.join(","), size: `${this.data.width},${this.data.height}`, name: this.data.name })}`;
  }
}

const ruler = document.createElement("canvas").getContext("2d");

const widths = new Map();

/* A label's letters in pixels: on a very large screen they grow with the page. */
function letterSize() {
  return 0.8 * parseFloat(getComputedStyle(document.documentElement).fontSize);
}

/* The width of a text at 12 pixels. */
function widthOf(text) {
  if (!widths.has(text)) {
    if (widths.size > 5000) widths.clear();
    ruler.font = "600 12px system-ui, sans-serif";
    widths.set(text, Math.ceil(ruler.measureText(text).width));
  }
  return widths.get(text);
}

function short(label) {
  return label.length > 28 ? `${label.slice(0, 27)}…` : label;
}
