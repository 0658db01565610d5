/* The composer: where one types, and where files become chips before anything is asked.
 *
 * Knows the page's own upload route and tells Python only what was sent: a text, ids of staged pictures. Does not know
 * what becomes of it. What is typed and staged lives in one store beside the elements, for Streamlit may draw them anew.
 */

const UPLOADS = "/app/uploads";
const UPLOADS_AT_ONCE = 2;
const KEPT = "qvl-composer";
const JUMP_WITHIN_MS = 5000;
const HOLD_MS = 10000;
const HELD_ACTS = ["look", "edit"]; // these draw a turn anew in its place
const HEARD_MS = 10_000; // a reader of the page has taken up by then what it is to read out
const BACK_AFTER_MS = 1000; // a server that is back draws the page first, and one that has begun anew hears nothing before
const BACK_WITHIN_MS = 5000;
const LOOK_AGAIN_MS = 250;
const AWAY_SAID_AFTER_MS = 2000; // a connection that is mended at once needs no words
const FOCUS_WITHIN_MS = 1500;
const TELL_AGAIN_MS = 3000;
const TOLD_AGAIN_MOST = 5;

const store = (window.qvlComposer ??= { text: "", chips: [], detail: "", restored: 0, jumped: 0, nextKey: 1, isRead: false, hears: false });
// By name, for the store may be that of an older version of this file, under which the server was brought up to date.
for (const [name, value] of Object.entries({ unheard: [], number: 0, line: 1, awaited: [] })) store[name] ??= value;
const instances = new WeakMap();

export default function composer(component) {
  let shown = instances.get(component.parentElement);
  if (!shown) {
    shown = new Composer(component.parentElement);
    instances.set(component.parentElement, shown);
  }
  shown.update(component.data, component.setTriggerValue);
  shown.attach();
  if (!store.hears) setTimeout(() => shown.hearEarlier());
  store.hears = true;
  return () => shown.detach();
}

const ICONS = {
  add: "M12 5v14M5 12h14",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 17a4 4 0 1 0 0-8 4 4 0 0 0 0 8z",
  send: "M12 19V5M6 11l6-6 6 6",
  private: "M3 3l18 18M10.6 10.7a2 2 0 0 0 2.8 2.8M9.4 5.2A9.6 9.6 0 0 1 12 5c5 0 8.5 4 9.5 7a12.6 12.6 0 0 1-2.4 3.7M6.5 6.6A12.5 12.5 0 0 0 2.5 12c1 3 4.5 7 9.5 7a9.7 9.7 0 0 0 4.4-1.1",
  turn: "M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5",
  crop: "M7 2v15h15M2 7h15v15",
  remove: "M6 6l12 12M18 6L6 18",
  tasks: "M4 6l1.5 1.5L8 5M4 12l1.5 1.5L8 11M4 18l1.5 1.5L8 17M12 6h8M12 12h8M12 18h8",
  previous: "M15 6l-6 6 6 6",
  next: "M9 6l6 6-6 6",
};
const icon = (name) => lineDrawing(ICONS[name], 18, 1.9);

function iconButton(name, label, act, more = {}) {
  return element("button", { type: "button", title: label, "aria-label": label, on: { click: act }, ...more }, icon(name));
}

class Composer {
  constructor(parent) {
    this.parent = parent;
    this.data = { labels: {}, details: [] };
    this.isAttached = false;
    this.dragDepth = 0;
    this.build();
  }

  build() {
    this.chips = element("ul", { class: "chips" });
    this.text = element("textarea", {
      rows: 1, "data-testid": "composer-text", autocomplete: "off",
      on: {
        input: () => { store.text = this.text.value; this.keep(); this.refresh(); },
        keydown: (event) => this.onKey(event),
      },
    });
    this.picker = element("input", {
      type: "file", multiple: true, hidden: true, tabindex: "-1",
      on: { change: () => { this.add([...this.picker.files]); this.picker.value = ""; } },
    });
    this.attachButton = element("button", { type: "button", class: "quiet", on: { click: () => this.picker.click() } });
    this.cameraButton = element("button", { type: "button", class: "quiet", on: { click: () => this.openCamera() } });
    this.tasksButton = element("button", { type: "button", class: "quiet", on: { click: () => this.say("did", { act: "tasks" }) } });
    this.detail = element("select", { class: "quiet", on: { change: () => this.chooseDetail(this.detail.value) } });
    this.privateButton = element("button", {
      type: "button", class: "quiet private", on: { click: (event) => this.turnPrivate(event) },
    });
    this.privateNote = element("p", { class: "private-note" });
    this.hint = element("span", { class: "hint", role: "status", "aria-live": "polite" });
    this.sendButton = element("button", { type: "button", class: "send", on: { click: () => this.send() } }, icon("send"));
    this.overlay = element("div", { class: "overlay", popover: "manual", "aria-hidden": "true" });
    this.away = element("div", { class: "away", popover: "manual", role: "status" });
    this.heard = element("p", { class: "heard", role: "status", "data-testid": "composer-heard" });
    this.box = element("div", { class: "box" },
      this.privateNote, this.chips, this.text,
      element("div", { class: "bar" }, this.attachButton, this.cameraButton, this.tasksButton, this.detail, this.privateButton, this.hint, this.sendButton),
    );
    this.parent.append(this.box, this.picker, this.overlay, this.away, this.heard);
  }

  update(data, setTriggerValue) {
    this.data = data;
    this.tell = setTriggerValue;
    // Most runs of the page tell nothing new about how all this looks.
    const looks = JSON.stringify({ ...data, last_question: "", answering: 0, answered: null, follows: false, restore: null, jump: null, place: "", address: "", heard: 0, conversation: 0, has_begun: 0, has_drafts: 0 });
    if (looks !== this.looks) this.relabel(data);
    this.looks = looks;
    if (data.details.length && !data.details.some(([value]) => value === store.detail)) store.detail = data.detail;
    this.detail.value = store.detail;
    const heldPrivate = store.holdsPrivate;
    const isWaited = store.unheard.some((each) => each.kind === "sent");
    this.takeHeard(data);
    this.sayAnswer(data, isWaited && !store.unheard.some((each) => each.kind === "sent"));
    if (data.restore && data.restore.token > store.restored) {
      store.restored = data.restore.token;
      store.holdsPrivate ||= heldPrivate || data.restore.is_private; // what comes back may be what was sent
      store.isMarked ||= data.restore.is_private;
      store.text = data.restore.replaces ? data.restore.text : joined(data.restore.text, store.text);
      if (data.restore.replaces) this.text.focus();
      if (data.details.some(([value]) => value === data.restore.detail)) {
        this.detail.value = data.restore.detail;
        this.chooseDetail(data.restore.detail);
      }
      this.fetchChips(data.restore.ids);
      this.keep();
    } else if (!store.isRead) {
      this.readKept();
    }
    store.isRead = true;
    this.lookPrivate();
    whenIdle(() => this.keepAddress());
    this.arrive(data);
    if (data.jump && data.jump.token > store.jumped) {
      store.jumped = data.jump.token;
      this.jumpTo(data.jump.turn);
    }
    if (this.text.value !== store.text) this.text.value = store.text;
    this.refresh();
  }

  relabel(data) {
    const say = data.labels;
    document.documentElement.lang = data.lang; // Streamlit's page says English: readers would speak it, and browsers offer to translate it
    this.box.hidden = !data.is_shown;
    this.text.placeholder = data.placeholder;
    this.text.setAttribute("aria-label", data.placeholder);
    this.text.disabled = !data.can_ask;
    this.picker.setAttribute("aria-label", say.attach);
    for (const [button, name, label] of [[this.attachButton, "add", say.attach], [this.cameraButton, "camera", say.camera], [this.tasksButton, "tasks", say.tasks]]) {
      button.replaceChildren(icon(name));
      button.title = label;
      button.setAttribute("aria-label", label);
      button.disabled = !data.can_ask;
    }
    this.cameraButton.hidden = !navigator.mediaDevices?.getUserMedia;
    this.privateNote.textContent = say.private_on;
    this.privateButton.hidden = data.private !== "on" && data.private !== "choice";
    this.privateButton.replaceChildren(icon("private"));
    this.privateButton.title = say.private;
    this.privateButton.setAttribute("aria-label", say.private);
    this.sendButton.title = say.send;
    this.sendButton.setAttribute("aria-label", say.send);
    this.overlay.textContent = say.drop;
    this.detail.setAttribute("aria-label", say.detail);
    this.detail.title = say.detail;
    this.detail.replaceChildren(...data.details.map(([value, label]) => element("option", { value, text: label })));
    this.detail.hidden = data.details.length < 2;
  }

  attach() {
    if (this.isAttached) return;
    this.isAttached = true;
    this.listeners = {
      paste: (event) => this.onPaste(event),
      dragenter: (event) => this.onDrag(event, 1),
      dragleave: (event) => this.onDrag(event, -1),
      dragover: (event) => { if (carriesFiles(event)) event.preventDefault(); },
      drop: (event) => this.onDrop(event),
      click: (event) => this.onPageClick(event),
      keydown: (event) => this.onPageKey(event),
      input: noteGrid,
      cut: noteGrid,
    };
    for (const [event, listener] of Object.entries(this.listeners)) document.addEventListener(event, listener, true);
    this.onBack = (event) => {
      event.stopImmediatePropagation(); // Streamlit would run the page once more for it, and keep this address as its own
      if (location.search !== this.data.address || this.isFollowing()) this.goToAddress();
    };
    window.addEventListener("popstate", this.onBack, true);
    this.onLeave = (event) => { if (this.data.has_drafts || isGridChanged()) event.preventDefault(); };
    window.addEventListener("beforeunload", this.onLeave);
    this.takeEarlyFiles();
    this.dialogObserver = new MutationObserver((changes) => {
      if (changes.some((each) => [...each.removedNodes].some(isDialog))) this.giveBackFocus();
    });
    this.dialogObserver.observe(document.body, { childList: true });
    this.lineObserver = new MutationObserver(() => this.onLine());
    if (appElement()) this.lineObserver.observe(appElement(), { attributeFilter: ["data-test-connection-state"] });
    this.onLine();
    this.watchTold();
    this.followEnd();
  }

  detach() {
    this.lineObserver?.disconnect();
    this.dialogObserver?.disconnect();
    clearTimeout(this.lookingBack);
    clearTimeout(this.tellingAgain);
    this.sayAway(false);
    window.removeEventListener("popstate", this.onBack, true);
    window.removeEventListener("beforeunload", this.onLeave);
    for (const [event, listener] of Object.entries(this.listeners ?? {})) document.removeEventListener(event, listener, true);
    this.endObserver?.disconnect();
    this.letGo?.();
    this.isAttached = false;
  }

  /* Files come in */

  onPaste(event) {
    noteGrid(event);
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length || !this.data.can_ask || !this.data.is_shown || window.qvlMeansText?.(event, this.text)) return; // a loader from before has no such rule
    event.preventDefault();
    event.stopPropagation();
    this.add(files);
    this.text.focus();
  }

  /* What was dropped or pasted on the page before this file was there. */
  takeEarlyFiles() {
    const files = window.qvlEarly?.handOver() ?? [];
    if (files.length && this.data.can_ask && this.data.is_shown) this.add(files);
  }

  onDrag(event, step) {
    if (!carriesFiles(event) || !this.data.is_shown || isForUploader(event)) return;
    event.preventDefault();
    this.dragDepth = Math.max(0, this.dragDepth + step);
    this.showOverlay(this.dragDepth > 0 && this.data.can_ask);
  }

  onDrop(event) {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // else the browser would leave the page for the file
    if (!this.data.is_shown) return;
    this.dragDepth = 0;
    this.showOverlay(false);
    if (isForUploader(event)) return;
    event.stopPropagation();
    if (this.data.can_ask) this.add([...event.dataTransfer.files]);
    this.text.focus();
  }

  showOverlay(isShown) {
    if (this.overlay.matches(":popover-open") !== isShown) this.overlay.togglePopover(isShown);
  }

  add(files) {
    for (const file of files) store.chips.push({ key: store.nextKey++, name: file.name, state: "waiting", file });
    this.keep();
    this.refresh();
    this.upload();
  }

  upload() {
    const free = UPLOADS_AT_ONCE - store.chips.filter((chip) => chip.state === "uploading").length;
    for (const chip of store.chips.filter((each) => each.state === "waiting").slice(0, Math.max(0, free))) {
      chip.state = "uploading";
      const query = new URLSearchParams({ name: chip.name, detail: store.detail, lang: this.data.lang });
      this.ask(chip, `${UPLOADS}?${query}`, { method: "POST", body: chip.file }).then(() => {
        this.upload();
        this.sendWaiting();
      });
    }
    this.refresh();
  }

  /* Ask the server about a chip; it then is what the server says, or says why not. */
  async ask(chip, address, request) {
    const { detail } = store;
    try {
      const reply = await fetch(address, { credentials: "same-origin", ...request });
      const said = await reply.json();
      if (!said.problem) {
        Object.assign(chip, { state: "ready", problem: "", isUnsent: false }, said);
      } else {
        this.refuse(chip, said.problem);
      }
    } catch {
      const canBeRead = !chip.file || (await isReadable(chip.file));
      chip.isUnsent = !chip.id && Boolean(chip.file) && canBeRead;
      this.refuse(chip, canBeRead ? this.data.labels.unreachable : this.data.labels.unreadable);
    }
    if (!store.chips.includes(chip) && chip.id) this.forget(chip.id); // removed while it was on its way
    else if (chip.state === "ready" && detail !== store.detail && !chip.problem) this.edit(chip, {}); // another was chosen meanwhile
    this.keep();
    this.refresh();
  }

  refuse(chip, problem) {
    chip.problem = problem || this.data.labels.unreachable;
    chip.state = chip.id ? "ready" : "refused";
    store.isWaiting = false;
  }

  edit(chip, wanted) {
    if (chip.state !== "ready") return;
    const body = JSON.stringify({ detail: store.detail, ...wanted });
    const address = `${UPLOADS}/${chip.id}?${new URLSearchParams({ lang: this.data.lang })}`;
    let edited = chip;
    if (wanted.keep) {
      edited = { key: store.nextKey++, name: chip.name };
      store.chips.splice(store.chips.indexOf(chip) + 1, 0, edited);
    }
    edited.state = "uploading";
    if (Object.keys(wanted).length) delete edited.file; // it is not what stands here any more
    this.refresh();
    this.ask(edited, address, { method: "POST", body }).then(() => this.sendWaiting());
  }

  chooseDetail(detail) {
    store.detail = detail;
    this.keep();
    for (const chip of store.chips) this.edit(chip, {});
  }

  remove(chip) {
    const at = store.chips.indexOf(chip);
    store.chips.splice(at, 1);
    if (chip.id) this.forget(chip.id);
    this.keep();
    this.refresh();
    const buttons = this.chips.querySelectorAll("button.remove");
    (buttons[Math.min(at, buttons.length - 1)] ?? this.text).focus();
  }

  forget(id) {
    fetch(`${UPLOADS}/${id}`, { method: "DELETE", credentials: "same-origin" }).catch(() => undefined);
  }

  async fetchChips(ids) {
    if (!ids?.length) return;
    const awaited = { ids };
    store.awaited.push(awaited); // a question that is sent meanwhile waits for them
    try {
      const query = new URLSearchParams({ ids: ids.join(","), lang: this.data.lang });
      const reply = await fetch(`${UPLOADS}?${query}`, { credentials: "same-origin" });
      if (!reply.ok) throw new Error(reply.statusText);
      const found = await reply.json();
      const known = new Set(store.chips.map((chip) => chip.id));
      for (const said of found) {
        if (!known.has(said.id)) store.chips.push({ key: store.nextKey++, state: "ready", ...said });
      }
      noLongerAwaited(awaited);
    } catch {
      awaited.isGivenUp = true; // a page that reloads: the next one asks again
    }
    this.keep();
    this.sendWaiting();
    this.refresh();
  }

  /* A server that has begun anew has none of the pictures that wait here: those whose files are at hand go to it once more. */
  async bringChips() {
    const asked = store.chips.filter((chip) => chip.id);
    const awaited = { ids: [] };
    store.awaited.push(awaited);
    try {
      const query = new URLSearchParams({ ids: asked.map((chip) => chip.id).join(","), lang: this.data.lang });
      const found = asked.length ? await (await fetch(`${UPLOADS}?${query}`, { credentials: "same-origin" })).json() : [];
      for (const chip of asked.filter((each) => !found.some(({ id }) => id === each.id))) {
        delete chip.id;
        chip.isUnsent = Boolean(chip.file);
        if (!chip.file) this.refuse(chip, this.data.labels.gone);
      }
      for (const chip of store.chips.filter((each) => each.isUnsent)) Object.assign(chip, { state: "waiting", isUnsent: false, problem: "" });
    } catch {
      // away again: the next time that it is back
    }
    noLongerAwaited(awaited);
    this.upload();
    this.keep();
    this.sendWaiting();
  }

  /* What is typed and staged outlives a reload of this tab, and nothing more. Browsers write it to their disk: of what is private they
   * get neither words nor names, also where the words still stand here after another conversation was opened. */

  keep() {
    if (!store.text && !store.chips.length && !store.awaited.length) store.isMarked = false;
    const sent = store.unheard.filter((each) => each.kind === "sent").map((each) => each.value);
    const text = joined(...sent.map((each) => each.text), store.text);
    const held = store.chips.filter((chip) => chip.id).map((chip) => chip.id);
    const ids = [...new Set([...[...sent, ...store.awaited].flatMap((each) => each.ids), ...held])];
    const lost = store.chips.filter((chip) => !chip.id && chip.state !== "refused").map((chip) => chip.name);
    store.wasPrivate = this.isPrivate();
    if (store.wasPrivate && !store.holdsPrivate) store.ordinary = { text: store.text, lost }; // it stood here before
    const { ordinary = { text: "", lost: [] } } = store;
    const isOrdinary = !sent.length && ["", ordinary.text].includes(store.text) && lost.every((name) => ordinary.lost.includes(name));
    const isPrivate = store.wasPrivate || sent.some((each) => each.private);
    store.holdsPrivate = isPrivate || Boolean(store.holdsPrivate && !isOrdinary);
    const told = store.holdsPrivate ? { private: isPrivate } : { text, lost };
    sessionStorage.setItem(KEPT, JSON.stringify({ ...told, ids, detail: store.detail }));
  }

  /* Whether what is typed now is for a private conversation: also while Python has not heard the click yet, and on the way to where one
   * was before. What was meant privately and was not asked yet stays so wherever it stands, until the switch is turned off. */
  isPrivate() {
    if (store.isMarked || this.data.private === "fixed") return true;
    const click = store.unheard.findLast(isPrivateClick);
    if (click) return Boolean(click.value.on);
    return this.isFollowing() ? Boolean(store.wasPrivate) : this.data.private === "on";
  }

  /* Let what stands in the box be asked privately or come back, whatever becomes of the page. */
  mark(isPrivate) {
    store.isMarked ||= Boolean(isPrivate);
    this.keep();
  }

  turnPrivate(event) {
    if (event.detail > 1) return; // the second click of two would undo the first
    const isOn = !this.isPrivate();
    store.isMarked &&= isOn;
    this.say("did", { act: "private", on: Number(isOn) });
    this.keep();
  }

  lookPrivate() {
    if (Boolean(store.wasPrivate) !== this.isPrivate()) this.keep(); // also to take away what was kept before
  }

  readKept() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
      store.text = store.text || kept.text || "";
      store.isMarked ||= Boolean(kept.private); // its pictures come back
      if (this.data.details.some(([value]) => value === kept.detail)) this.detail.value = store.detail = kept.detail;
      for (const name of kept.lost ?? []) store.chips.push({ key: store.nextKey++, name, state: "refused", problem: this.data.labels.lost });
      this.fetchChips(kept.ids);
    } catch {
      sessionStorage.removeItem(KEPT);
    }
  }

  /* Sending */

  onKey(event) {
    if (event.isComposing || event.keyCode === 229) return; // Enter chooses a word while Chinese is typed
    const isLineEnd = event.shiftKey || (isTouched() && !event.ctrlKey && !event.metaKey);
    if (event.key === "Enter" && !isLineEnd) {
      event.preventDefault();
      this.send();
    } else if (event.key === "Escape") {
      this.onEscape(event);
    } else if (event.key === "ArrowUp" && !this.text.value && this.data.last_question) {
      event.preventDefault();
      store.text = this.text.value = this.data.last_question;
      this.text.setSelectionRange(store.text.length, store.text.length);
      this.refresh();
    }
  }

  onEscape(event) {
    event.stopPropagation();
    if (this.holdsBack()) {
      this.giveUp();
    } else if (this.text.value || store.chips.some((chip) => chip.state === "refused")) {
      store.text = this.text.value = "";
      store.chips = store.chips.filter((chip) => chip.state !== "refused");
      this.keep();
    } else {
      stopAnswer();
    }
    this.refresh();
  }

  holdsBack() {
    return store.isWaiting || store.unheard.some(isHeldClick);
  }

  giveUp() {
    store.isWaiting = false;
    store.unheard = store.unheard.filter((each) => !isHeldClick(each));
    this.refresh();
  }

  send() {
    if (!this.data.can_ask) return;
    if (isBusy() || isAway() || this.isFollowing()) {
      [store.isWaiting, store.waitsIn] = [true, this.isFollowing() ? undefined : this.data.conversation];
      this.mark(this.isPrivate()); // as it is seen now: the page may be another one when it goes
      this.refresh();
      return;
    }
    store.isWaiting = false;
    store.awaited = [];
    const ids = store.chips.filter((chip) => chip.state === "ready").map((chip) => chip.id);
    const text = this.text.value.trim();
    if (!text && !ids.length) return;
    const isPrivate = this.isPrivate();
    if (isPrivate) delete store.ordinary;
    this.say("sent", { text, ids, conversation: this.data.conversation, private: isPrivate }, store.chips);
    store.text = this.text.value = "";
    store.chips = [];
    this.isAtEnd = true;
    this.keep();
    this.refresh();
  }

  sendWaiting() {
    if (!store.isWaiting || isBusy() || isAway() || this.isFollowing()) return;
    const { conversation, has_begun: hasBegun } = this.data;
    const isStillThere = store.waitsIn === undefined || store.waitsIn === conversation || (store.waitsIn === null && hasBegun);
    store.isWaiting = isStillThere; // what was meant for another conversation stays where it is typed
    if (isStillThere) this.send();
    else this.refresh();
  }

  /* Whether the page is on its way to what the address says: for a moment it may show something else. */
  isFollowing() {
    return store.session !== undefined && (store.session !== this.data.session || store.unheard.some((each) => each.kind === "went"));
  }

  /* Python hears what is told here sooner or later, once. While it is busy, Streamlit keeps only the latest that a part of the page tells,
   * and nothing while the connection is away: so all that was not heard is told again with the next, and after the connection is back. */

  say(kind, value, chips = []) {
    const isReplaced = (each) => isUntold(each) && each.kind === kind && !isPrivateClick(each);
    if (isAway() && !isPrivateClick({ kind, value })) store.unheard = store.unheard.filter((each) => !isReplaced(each)); // of many clicks, the last
    store.unheard.push({ number: ++store.number, kind, value, chips });
    this.deliver();
    this.refresh();
  }

  deliver() {
    if (isAway() || !store.unheard.some((each) => each.line !== store.line)) return;
    for (const each of store.unheard) Object.assign(each, { line: store.line, session: this.data.session });
    this.tell("told", store.unheard.map(({ number, kind, value }) => ({ number, kind, value })));
    this.watchTold();
  }

  /* What is told in the wrong moment of a run can go astray in Streamlit: where Python rests and has not said that it heard, it is told once more. */
  watchTold() {
    clearTimeout(this.tellingAgain);
    this.tellingAgain = setTimeout(() => this.tellAgain(), TELL_AGAIN_MS);
  }

  tellAgain() {
    if (!store.unheard.some((each) => each.line === store.line) || isAway()) return;
    if (store.again?.number !== store.number) store.again = { number: store.number, times: 0 };
    if (store.again.times >= TOLD_AGAIN_MOST) return;
    if (appElement()?.dataset.testScriptState !== "notRunning") return this.watchTold();
    store.again.times += 1;
    store.line += 1;
    return this.deliver();
  }

  takeHeard(data) {
    const isLost = (each) => !isUntold(each) && each.session !== data.session; // the server began anew before it said that it has heard
    const lost = store.unheard.filter(isLost);
    const left = store.unheard.filter((each) => (isLost(each) ? isPrivateClick(each) : each.number > data.heard));
    if (!lost.length && left.length === store.unheard.length) return;
    store.unheard = left;
    for (const each of lost.filter(isPrivateClick)) [each.line, each.session] = []; // heard twice it does no harm, and lost it does
    for (const { value, chips } of lost.filter((each) => each.kind === "sent")) {
      store.text = joined(value.text, store.text);
      store.chips.push(...chips);
      store.isMarked ||= value.private;
    }
    this.keep();
    if (lost.length) this.bringChips();
  }

  onLine() {
    if (isLineCut()) {
      clearTimeout(this.lookingBack);
      store.isCut = true;
    } else if (store.isCut) {
      this.lookBack(Date.now() + BACK_WITHIN_MS);
    }
    this.refresh();
  }

  lookBack(until, after = BACK_AFTER_MS) {
    clearTimeout(this.lookingBack);
    this.lookingBack = setTimeout(() => {
      if (appElement().dataset.testScriptState !== "notRunning" && Date.now() < until) return this.lookBack(until, LOOK_AGAIN_MS);
      store.isCut = false;
      store.line += 1;
      this.deliver();
      this.bringChips();
      this.sendWaiting();
      return this.refresh();
    }, after);
  }

  /* What is shown */

  /* Says on every page that nothing which is clicked now would arrive. */
  sayAway(isCut) {
    const isSaid = this.away.matches(":popover-open");
    document.documentElement.toggleAttribute("data-qvl-cut", isCut);
    document.documentElement.toggleAttribute("data-qvl-away", isCut && isSaid); // a composer that left the page has closed what it said
    clearInterval(this.closingTheirs);
    if (isCut) this.closingTheirs = setInterval(closeConnectionError, LOOK_AGAIN_MS);
    if (isCut && (this.sayingAway || isSaid)) return;
    clearTimeout(this.sayingAway);
    this.sayingAway = 0;
    if (isCut) this.sayingAway = setTimeout(() => this.showAway(true), AWAY_SAID_AFTER_MS);
    else if (isSaid) this.showAway(false);
  }

  showAway(isShown) {
    this.sayingAway = 0;
    this.away.togglePopover(isShown);
    this.away.textContent = isShown ? this.data.labels.away_page : "";
    document.documentElement.toggleAttribute("data-qvl-away", isShown);
  }

  refresh() {
    const say = this.data.labels;
    this.chips.hidden = !store.chips.length;
    this.chips.setAttribute("aria-label", say.pictures);
    const focused = this.parent.activeElement?.dataset?.focus ?? document.activeElement?.dataset?.focus;
    this.showChips();
    if (focused) this.chips.querySelector(`[data-focus="${focused}"]`)?.focus();
    if (this.isAttached) this.sayAway(isAway());
    this.showPrivate();
    const canSend = this.data.can_ask && (this.text.value.trim() || store.chips.some((chip) => chip.state !== "refused"));
    this.sendButton.disabled = !canSend;
    const isHeld = isAway() && (store.isWaiting || store.unheard.some(isHeldClick));
    const hint = isHeld ? say.away : store.isWaiting ? say.waiting : isBusy() ? say.staging : this.passing ?? "";
    if (this.hint.textContent !== hint) this.hint.textContent = hint;
    // Asking for a height has the whole page laid out; what is not shown has none.
    const measured = this.box.hidden ? null : `${this.text.placeholder}\n${this.text.value}`;
    if (measured === this.measured) return;
    this.measured = measured;
    if (measured === null) return;
    this.text.style.height = "auto";
    this.text.style.height = `${Math.min(this.text.scrollHeight, 220)}px`;
  }

  /* Chips that stay as they are are not touched: a reader would tell each problem anew with every letter that is typed. */
  showChips() {
    const isAlone = store.chips.filter((each) => each.state !== "refused").length < 2;
    this.drawn ??= new WeakMap();
    const wanted = store.chips.map((chip) => {
      const looks = JSON.stringify([chip, isAlone, this.data.lang]);
      if (this.drawn.get(chip)?.looks !== looks) this.drawn.set(chip, { looks, made: this.chipElement(chip, isAlone) });
      return this.drawn.get(chip).made;
    });
    for (const child of [...this.chips.children]) if (!wanted.includes(child)) child.remove();
    wanted.forEach((made, at) => {
      if (this.chips.children[at] !== made) this.chips.insertBefore(made, this.chips.children[at] ?? null);
    });
  }

  /* Who hears the page is told that an answer is being made, and what it says as soon as it is there: of what stood there before, nothing. */
  sayAnswer(data, wasAsked) {
    const { place, answering = 0, answered = null } = data;
    const before = this.answers ?? { place, answering, turn: answered?.[0] };
    this.answers = { place, answering, turn: answered?.[0] };
    const isHere = before.place === place;
    const had = isHere ? before.answering : 0;
    const isNew = Boolean(answered) && answered[0] !== before.turn && (isHere || wasAsked);
    let said = isHere ? this.heard.textContent : "";
    if (answering > had && (isHere || wasAsked)) said = data.labels.answering;
    else if (answering < had || (wasAsked && isNew)) said = isNew ? answered[1] : "";
    if (this.heard.textContent === said) return;
    this.heard.textContent = said;
    // It is heard once. Who walks through the page, or searches in it, is to find each word where it is shown.
    clearTimeout(this.silence);
    this.silence = setTimeout(() => { this.heard.textContent = ""; }, HEARD_MS);
  }

  showPrivate() {
    const isPrivate = Boolean(this.data.private) && this.isPrivate(); // in an ordinary conversation nothing can be
    this.box.classList.toggle("is-private", isPrivate);
    this.privateNote.hidden = !isPrivate;
    this.privateButton.setAttribute("aria-pressed", String(isPrivate));
  }

  chipElement(chip, isAlone) {
    const say = this.data.labels;
    const named = (label) => label.replace("{name}", chip.name);
    const { lines, notes } = isAlone || !chip.among ? chip : chip.among;
    const made = element("li", { class: `chip ${chip.state}`, "data-testid": "composer-chip" });
    if (chip.thumbnail) {
      made.append(element("img", { src: chip.thumbnail, alt: named(say.alt) }));
    } else {
      made.append(element("span", { class: chip.state === "refused" ? "blank" : "blank moving", "aria-hidden": "true" }));
    }
    const told = element("div", { class: "told" }, element("span", { class: "name", text: chip.name, title: chip.name }));
    for (const line of lines ?? []) told.append(element("span", { class: "line", text: line }));
    if (chip.state === "uploading" && !chip.lines) told.append(element("span", { class: "line", text: say.staging }));
    for (const line of notes ?? []) told.append(element("span", { class: "line", text: line }));
    for (const line of chip.warnings ?? []) told.append(element("span", { class: "warning", text: line }));
    if (chip.problem) told.append(element("span", { class: "problem", text: chip.problem, role: "alert" }));
    const tools = element("div", { class: "tools" });
    const tool = (name, label, act, more = {}) =>
      tools.append(iconButton(name, named(label), act, { class: name, "data-focus": `${chip.key}-${name}`, ...more }));
    if (chip.id) {
      const off = { disabled: chip.state !== "ready" };
      if (chip.pages > 1) {
        tool("previous", say.previous, () => this.edit(chip, { page: chip.page - 1 }), { disabled: off.disabled || chip.page < 1 });
        tools.append(this.pageInput(chip, named(say.page)));
        tool("next", say.next, () => this.edit(chip, { page: chip.page + 1 }), { disabled: off.disabled || chip.page + 1 >= chip.pages });
        tool("add", say.add_page, () => this.edit(chip, { page: chip.page + 1, keep: true }), { disabled: off.disabled || chip.page + 1 >= chip.pages });
      }
      if (!chip.is_clip) {
        tool("turn", say.turn, () => this.edit(chip, { turn: 1 }), off);
        tool("crop", say.crop, () => this.openCrop(chip), off);
      }
    }
    tool("remove", say.remove, () => this.remove(chip));
    told.append(tools);
    made.append(told);
    return made;
  }

  pageInput(chip, label) {
    return element("input", {
      type: "number", min: 1, max: chip.pages, value: chip.page + 1, class: "page",
      "aria-label": label, "data-focus": `${chip.key}-page`,
      on: {
        change: (event) => {
          const page = Math.min(chip.pages, Math.max(1, Math.round(Number(event.target.value)) || 1)) - 1;
          event.target.value = page + 1;
          if (page !== chip.page) this.edit(chip, { page });
        },
      },
    });
  }

  dialog(label, ...children) {
    const made = element("dialog", { "aria-label": label }, element("h2", { text: label }), ...children);
    this.parent.append(made);
    made.addEventListener("close", () => { made.remove(); this.text.focus(); });
    made.addEventListener("keydown", (event) => event.stopPropagation());
    made.showModal();
    return made;
  }

  openCrop(chip) {
    const say = this.data.labels;
    const cut = { x1: 0.1, y1: 0.1, x2: 0.9, y2: 0.9 };
    const frame = element("div", { class: "frame", tabindex: "0", role: "application", "aria-label": say.crop_keys });
    const stage = element("div", { class: "stage" },
      element("img", { src: `${UPLOADS}/${chip.id}/view`, alt: chip.name, draggable: "false" }), frame);
    const place = () => {
      Object.assign(frame.style, {
        left: `${cut.x1 * 100}%`, top: `${cut.y1 * 100}%`,
        width: `${(cut.x2 - cut.x1) * 100}%`, height: `${(cut.y2 - cut.y1) * 100}%`,
      });
    };
    const clamp = (value) => Math.min(1, Math.max(0, value));
    let start = null;
    const at = (event) => {
      const bounds = stage.getBoundingClientRect();
      return [clamp((event.clientX - bounds.left) / bounds.width), clamp((event.clientY - bounds.top) / bounds.height)];
    };
    stage.addEventListener("pointerdown", (event) => { start = at(event); stage.setPointerCapture(event.pointerId); });
    stage.addEventListener("pointermove", (event) => {
      if (!start) return;
      const now = at(event);
      [cut.x1, cut.x2] = [Math.min(start[0], now[0]), Math.max(start[0], now[0])];
      [cut.y1, cut.y2] = [Math.min(start[1], now[1]), Math.max(start[1], now[1])];
      place();
    });
    stage.addEventListener("pointerup", () => { start = null; });
    frame.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const [dx, dy] = step.map((each) => each * 0.02);
      if (!event.shiftKey) {
        const mx = Math.min(1 - cut.x2, Math.max(-cut.x1, dx));
        const my = Math.min(1 - cut.y2, Math.max(-cut.y1, dy));
        cut.x1 += mx; cut.x2 += mx; cut.y1 += my; cut.y2 += my;
      } else {
        cut.x2 = Math.min(1, Math.max(cut.x1 + 0.02, cut.x2 + dx));
        cut.y2 = Math.min(1, Math.max(cut.y1 + 0.02, cut.y2 + dy));
      }
      place();
    });
    const take = () => {
      if (cut.x2 - cut.x1 > 0.005 && cut.y2 - cut.y1 > 0.005) this.edit(chip, { crop: [cut.x1, cut.y1, cut.x2, cut.y2] });
      shown.close();
    };
    const shown = this.dialog(say.crop.replace("{name}", chip.name), stage, element("p", { class: "hint", text: say.crop_how }),
      element("div", { class: "ends" },
        element("button", { type: "button", text: say.cancel, on: { click: () => shown.close() } }),
        element("button", { type: "button", class: "main", text: say.crop_take, on: { click: take } })));
    place();
    frame.focus();
  }

  async openCamera() {
    const say = this.data.labels;
    const video = element("video", { autoplay: true, playsinline: true, muted: true, "aria-label": say.camera });
    const problem = element("p", { class: "problem", role: "alert" });
    let stream = null;
    const take = () => {
      takeButton.disabled = true; // the photo takes a moment to make: a second click would add it twice
      const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((blob) => {
        takeButton.disabled = Boolean(blob);
        if (!blob || !shown.open) return;
        this.add([new File([blob], "photo.jpg", { type: "image/jpeg" })]);
        shown.close();
      }, "image/jpeg", 0.95);
    };
    const takeButton = element("button", { type: "button", class: "main", text: say.camera_take, disabled: true, on: { click: take } });
    const shown = this.dialog(say.camera, video, problem,
      element("div", { class: "ends" },
        element("button", { type: "button", text: say.cancel, on: { click: () => shown.close() } }), takeButton));
    shown.addEventListener("close", () => stream?.getTracks().forEach((track) => track.stop()));
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: false, video: { facingMode: "environment", width: { ideal: 3840 }, height: { ideal: 2160 } },
      });
      if (!shown.open) stream.getTracks().forEach((track) => track.stop());
      video.srcObject = stream;
      await video.play();
      takeButton.disabled = false;
      takeButton.focus();
    } catch {
      problem.textContent = say.camera_none;
    }
  }

  /* The page around: its buttons, and following the end while one reads there. */

  onPageClick(event) {
    noteFocus();
    const button = event.target.closest?.("button");
    const before = this.clicked;
    this.clicked = button;
    if (!button) return;
    if (button.matches('[data-testid="stElementToolbarButton"] *')) noteGrid(event); // one of them takes out rows
    if (!button.dataset.act) {
      // The second click of two: what it decides is decided, and where the page was drawn anew, what lies under it now was not meant.
      if (event.detail > 1 && ((before && !before.isConnected) || button.matches('[data-testid^="stBaseButton-primary"]'))) swallow(event);
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    this.do(button);
  }

  /* Streamlit's dialogs give the focus back, but not to what stands in a part of the page: it would be nowhere. */
  giveBackFocus() {
    const until = Date.now() + FOCUS_WITHIN_MS;
    const look = () => {
      if (document.activeElement !== document.body || !store.focused) return;
      const { at, root } = store.focused;
      (at.isConnected ? at : root.querySelector(`[data-focus="${at.dataset.focus}"]`))?.focus({ preventScroll: true });
      if (document.activeElement === document.body && Date.now() < until) requestAnimationFrame(look); // still out of reach, or drawn anew
    };
    requestAnimationFrame(look);
  }

  /* The page stands before this file is there. A button that was clicked meanwhile still has the focus that the pointer gave it; one that
   * is pressed this moment will be heard as any other. */
  hearEarlier() {
    const button = document.activeElement;
    if (button?.matches("button[data-act]:not(:focus-visible, :active)")) this.do(button);
  }

  do(button) {
    if (HELD_ACTS.includes(button.dataset.act)) this.hold(button.dataset.turn);
    if (button.dataset.act === "earlier") this.hold(document.querySelector("[data-turn-place]")?.dataset.turnPlace);
    if (button.dataset.act === "edit") this.goToEditor(button.dataset.turn);
    if (button.dataset.act === "copy") this.copy(button);
    else this.say("did", { ...button.dataset });
  }

  /* A button in a dialog loses the focus while its file is made; then Escape is heard by nobody. */
  onPageKey(event) {
    noteFocus();
    if (["Delete", "Backspace"].includes(event.key) || (event.key.length === 1 && !event.ctrlKey && !event.metaKey)) noteGrid(event);
    // A key that is held a little too long must not decide what comes next, too.
    if (event.repeat && event.key === "Enter" && !event.composedPath()[0].matches?.("textarea")) return swallow(event);
    if (event.key !== "Escape" || event.repeat || !event.isTrusted) return;
    const dialog = document.activeElement === document.body && document.querySelector('[data-testid="stDialog"] [role="dialog"]');
    if (dialog) {
      dialog.focus();
      dialog.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", code: "Escape", bubbles: true, cancelable: true }));
    } else if (isForNobody(event)) {
      if (this.holdsBack()) this.giveUp(); // what is typed stays: one may have left it alone for a while
      else stopAnswer();
    }
  }

  async copy(button) {
    let said = this.data.labels.not_copied, shownMs = 6000;
    try {
      const reply = await fetch(`/app/answers/${button.dataset.turn}?lang=${this.data.lang}`, { credentials: "same-origin" });
      if (reply.ok) {
        await navigator.clipboard.writeText(await reply.text());
        said = this.data.labels.copied;
        shownMs = 2500;
        const drawing = button.querySelector(".qvl-icon");
        drawing?.classList.replace("qvl-icon-copy", "qvl-icon-done");
        setTimeout(() => drawing?.classList.replace("qvl-icon-done", "qvl-icon-copy"), 2500);
      }
    } catch {
      // the browser keeps its clipboard to itself: the sentence says so
    }
    this.passing = said; // a page that is drawn anew meanwhile leaves it standing
    this.refresh();
    clearTimeout(this.passes);
    this.passes = setTimeout(() => { this.passing = ""; this.refresh(); }, shownMs);
  }

  /* The button gives way to the editor: who pressed it goes on there. */
  goToEditor(turn) {
    const until = Date.now() + JUMP_WITHIN_MS;
    const look = () => {
      const editor = document.querySelector(`.st-key-edited-${turn} textarea`);
      if (!editor && Date.now() < until) return requestAnimationFrame(look);
      if (![document.body, editor].includes(document.activeElement)) return undefined; // one went elsewhere meanwhile
      editor?.focus({ preventScroll: true });
      editor?.setSelectionRange(editor.value.length, editor.value.length);
      return undefined;
    };
    look();
  }

  /* Go to a turn that was found by a search, as soon as the page has it. */
  jumpTo(turn) {
    const until = Date.now() + JUMP_WITHIN_MS;
    const look = () => {
      const place = document.querySelector(`[data-turn-place="${turn}"]`);
      if (!place && Date.now() < until) return requestAnimationFrame(look);
      if (!place) return undefined;
      this.isAtEnd = false;
      place.scrollIntoView({ block: "start" });
      place.classList.add("qvl-found");
      return undefined;
    };
    look();
  }

  /* Keep a turn where one sees it while the page around it is drawn anew, until the person goes on. */
  hold(turn) {
    const main = document.querySelector('[data-testid="stMain"]');
    const content = main?.querySelector('[data-testid="stMainBlockContainer"]');
    const find = () => document.querySelector(`[data-turn-place="${turn}"]`);
    const top = find()?.getBoundingClientRect().top;
    if (!content || top === undefined) return;
    this.letGo?.();
    this.isAtEnd = false;
    content.style.minHeight = `${content.offsetHeight}px`; // half-drawn it is shorter, and would be scrolled
    const until = Date.now() + HOLD_MS;
    let isHeld = true;
    const goOn = ["wheel", "touchmove", "pointerdown", "keydown"];
    this.letGo = () => {
      isHeld = false;
      content.style.minHeight = "";
      for (const event of goOn) document.removeEventListener(event, this.letGo, true);
    };
    for (const event of goOn) document.addEventListener(event, this.letGo, true);
    const keep = () => {
      if (!isHeld) return;
      const off = (find()?.getBoundingClientRect().top ?? top) - top;
      if (Math.abs(off) >= 1) main.scrollTop += off;
      if (Date.now() > until) this.letGo();
      else requestAnimationFrame(keep);
    };
    requestAnimationFrame(keep);
  }

  /* The address says what is open: a reload or a bookmark finds it again, back and forward lead through it. Written here, for Streamlit
   * draws its whole page anew for an address that Python writes. */
  keepAddress() {
    if (store.unheard.some((each) => each.kind === "went")) return; // this tells of where one was before
    const before = store.session, { session, address } = this.data;
    const replaces = before === undefined || store.isFollowing; // no step of its own: back would lead to it again and again
    [store.session, store.isFollowing] = [session, false];
    const hasBegunAnew = before !== undefined && before !== session;
    if (hasBegunAnew) this.mark(store.wasPrivate);
    if (location.search !== address) {
      // A server that has begun anew has the address at which this tab was once opened.
      if (hasBegunAnew) this.goToAddress({ isThere: true });
      else history[replaces ? "replaceState" : "pushState"]({}, "", location.pathname + address);
    }
    this.deliver();
    this.lookPrivate();
    this.showPrivate();
    this.sendWaiting();
  }

  /* Where one `isThere` already, what was clicked meanwhile was clicked there, and comes after it. */
  goToAddress({ isThere = false } = {}) {
    store.isFollowing = true;
    const held = isThere ? store.unheard.filter(isUntold) : [];
    store.unheard = store.unheard.filter((each) => !held.includes(each));
    this.say("went", Object.fromEntries(new URL(location.href).searchParams));
    for (const each of held) store.unheard.push({ ...each, number: ++store.number });
    this.deliver();
  }

  /* Another page begins at its top, another conversation at its end: Streamlit keeps the place of what stood there before. */
  arrive(data) {
    const isElsewhere = store.place !== undefined && store.place !== data.place;
    store.place = data.place;
    if (!isElsewhere) return;
    this.isAtEnd = true;
    const main = document.querySelector('[data-testid="stMain"]');
    if (main) main.scrollTop = data.follows ? main.scrollHeight : 0;
    closeDrawer(main);
  }

  followEnd() {
    const main = document.querySelector('[data-testid="stMain"]');
    const content = main?.querySelector('[data-testid="stMainBlockContainer"]');
    if (!content) return;
    this.isAtEnd = true;
    let top = main.scrollTop, height = main.scrollHeight;
    main.addEventListener("scroll", () => {
      // Only a person scrolls up; content that grows leaves the end behind without anybody's wish, and content that
      // is drawn anew, and shorter for a moment, brings the end near without anybody's wish.
      const isAtEnd = main.scrollHeight - main.scrollTop - main.clientHeight < 80;
      if (isAtEnd && main.scrollHeight >= height) this.isAtEnd = true;
      else if (!isAtEnd && main.scrollTop < top - 2) this.isAtEnd = false;
      [top, height] = [main.scrollTop, main.scrollHeight];
    }, { passive: true });
    this.endObserver = new ResizeObserver(() => {
      // Who works on a picture or a table above keeps it where it is.
      const isAtWork = document.activeElement?.closest?.('[class*="st-key-looked-at-"], [class*="st-key-picture-"]');
      if (this.isAtEnd && this.data.follows && !isAtWork) main.scrollTop = main.scrollHeight;
    });
    this.endObserver.observe(content);
  }
}

/* Whether one types on the screen: such a keyboard has no Shift and Enter, so Enter alone begins a line there, and the button sends. */
function isTouched() {
  return matchMedia("(pointer: coarse)").matches;
}

/* What a browser takes long for and nobody waits for. */
function whenIdle(act) {
  if (window.requestIdleCallback) requestIdleCallback(act, { timeout: 300 });
  else setTimeout(act, 30);
}

function swallow(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
}

function isBusy() {
  return store.chips.some((chip) => chip.state === "waiting" || chip.state === "uploading") || store.awaited.some((each) => !each.isGivenUp);
}

function noLongerAwaited(awaited) {
  store.awaited = store.awaited.filter((each) => each !== awaited);
}

function appElement() {
  return document.querySelector('[data-testid="stApp"]');
}

/* Whether nothing that is told now would arrive. */
function isAway() {
  return Boolean(store.isCut) || isLineCut();
}

function isLineCut() {
  const state = appElement()?.dataset.testConnectionState;
  return state !== undefined && state !== "CONNECTED";
}

/* Streamlit asks in a dialog of its own whether one is connected to the internet, and takes the focus. Its dialogs hold nothing of a page's. */
function closeConnectionError() {
  const dialogs = [...document.querySelectorAll('[data-testid="stDialog"]')];
  dialogs.find((each) => !each.querySelector('[data-testid="stVerticalBlock"]'))?.querySelector("section > button")?.click();
}

function isUntold(each) {
  return each.line === undefined;
}

/* The switch says what holds for the next question: nothing that is clicked later, or given up, takes its place. */
function isPrivateClick(each) {
  return each.kind === "did" && each.value.act === "private";
}

function isHeldClick(each) {
  return each.kind === "did" && isUntold(each) && !isPrivateClick(each);
}

function joined(...texts) {
  return texts.filter(Boolean).join("\n");
}

function carriesFiles(event) {
  return [...(event.dataTransfer?.types ?? [])].includes("Files");
}

/* On a narrow screen the side bar lies over the page: what was chosen there would stay behind it. */
function closeDrawer(main) {
  const side = document.querySelector('[data-testid="stSidebar"][data-collapsed="false"]');
  if (!side || !main || side.getBoundingClientRect().right <= main.getBoundingClientRect().left + 1) return;
  const hadFocus = side.contains(document.activeElement);
  side.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
  if (hadFocus) main.focus({ preventScroll: true });
}

/* Where the focus is, also behind the border of a part of the page, over which Streamlit does not look. */
function focusedDeep() {
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  return at;
}

/* What is used from now on in a dialog or a menu was opened from here. */
function noteFocus() {
  const at = focusedDeep();
  if (at && at !== document.body && !at.closest('[data-testid="stDialog"], dialog, [popover]')) store.focused = { at, root: at.getRootNode() };
}

/* What is changed in the cells of a table stays in Streamlit's own part of the page until it is saved, and goes with it. It is drawn
 * on a canvas; a cell that is typed in lies above the page. */
function noteGrid(event) {
  const grid = document.querySelector(EDITED_GRID);
  const isInIt = grid && event.composedPath().some((each) => each === grid || each.id === "portal");
  if (isInIt) store.grid = grid;
}

function isGridChanged() {
  return Boolean(store.grid?.isConnected && store.grid.matches(EDITED_GRID));
}

function stopAnswer() {
  document.querySelector('[class*="st-key-stop-"] button:not([disabled])')?.click();
}

const EDITED_GRID = '[class*="st-key-looked-at-"] [data-testid="stDataFrame"]';
const OPEN_ABOVE = '[data-testid="stDialog"], [data-testid="stPopoverBody"], dialog[open], [role="menu"], [role="listbox"]';
const HAVE_KEYS = 'dialog, [popover], [data-testid="stElementToolbar"], [class*="st-key-looked-at-"], [class*="st-key-picture-"]';

/* Whether Escape would do nothing where the focus is: as after a click into the list of conversations, or on the page. */
function isForNobody(event) {
  const path = event.composedPath().filter((each) => each.matches);
  const isIdle = path[0].matches("body, main, section, nav, button, a, [data-testid]:not(input, textarea, canvas)");
  const root = path[0].getRootNode();
  return isIdle && !root.querySelector(":popover-open") && !document.querySelector(OPEN_ABOVE) && !path.some((each) => each.matches(HAVE_KEYS));
}

function isDialog(each) {
  return each.dataset?.testid === "stDialog" || each.classList?.contains("stDialog");
}

/* Whether a file is over a place of Streamlit's own that takes files, as the one in the dialog of tasks. */
function isForUploader(event) {
  return event.composedPath().some((each) => each.dataset?.testid === "stFileUploaderDropzone");
}
