/* Where pictures for a run are dropped: files or whole folders, sent one after the other to the app's own folder.
 *
 * Knows the page's drop route and tells Python which drop there is and what lies in it. Does not know what is asked
 * about the files. The store outlives the elements, for Streamlit may draw them anew.
 */

const DROPS = "/app/drops";
const SENT_AT_ONCE = 2;
const PROBLEMS_SHOWN = 5;

const stores = (window.qvlDropped ??= {}); // one for each place where files are dropped
const emptied = () => ({ id: "", waiting: [], sent: 0, count: 0, bytes: 0, problems: [] });
const instances = new WeakMap();

export default function dropped(component) {
  let shown = instances.get(component.parentElement);
  if (!shown) {
    shown = new Dropped(component.parentElement, component.data);
    instances.set(component.parentElement, shown);
  }
  shown.update(component.data, component.setStateValue);
}

function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sized(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

/* A dropped folder is read entry by entry: browsers hand out at most a hundred at a time. */
async function filesOf(entry, path) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    return [{ file, name: path + file.name }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const each of some) {
      if (!each.name.startsWith(".")) found.push(...(await filesOf(each, `${path}${entry.name}/`)));
    }
  }
}

class Dropped {
  constructor(parent, data) {
    this.data = { labels: {} };
    this.store = stores[data.place] ??= { ...emptied(), token: data.token, sending: 0 };
    const picker = (more) => element("input", {
      type: "file", multiple: !data.single, hidden: true, tabindex: "-1", ...more,
      on: { change: (event) => {
        this.add([...event.target.files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
        event.target.value = "";
      } },
    });
    this.files = picker({ "data-testid": "drop-files", accept: "image/*,.heic,.heif,.hif,.pdf,.tif,.tiff" });
    this.folder = picker({ "data-testid": "drop-folder", webkitdirectory: true });
    this.filesButton = element("button", { type: "button", on: { click: () => this.files.click() } });
    this.folderButton = element("button", { type: "button", on: { click: () => this.folder.click() } });
    this.clearButton = element("button", { type: "button", class: "plain", on: { click: () => this.clear() } });
    this.how = element("p", { class: "how" });
    this.told = element("p", { class: "told", role: "status", "aria-live": "polite", "data-testid": "drop-told" });
    this.bar = element("progress", { max: 1, value: 0 });
    this.problems = element("ul", { class: "problems" });
    this.area = element("div", {
      class: "area",
      on: {
        dragover: (event) => { event.preventDefault(); this.area.classList.add("over"); },
        dragleave: () => this.area.classList.remove("over"),
        drop: (event) => this.onDrop(event),
      },
    }, this.how, element("div", { class: "buttons" }, this.filesButton, this.folderButton, this.clearButton),
    this.told, this.bar, this.problems);
    parent.append(this.area, this.files, this.folder);
  }

  update(data, setStateValue) {
    this.data = data;
    this.tell = setStateValue;
    const say = data.labels;
    this.how.textContent = say.how;
    this.filesButton.textContent = say.files;
    this.folderButton.textContent = say.folder;
    this.clearButton.textContent = say.clear;
    this.files.setAttribute("aria-label", say.files);
    this.folder.setAttribute("aria-label", say.folder);
    this.bar.setAttribute("aria-label", say.sending);
    this.folderButton.hidden = data.single;
    if (data.token !== this.store.token) { // a run has begun over what lay here
      Object.assign(this.store, emptied(), { token: data.token });
    }
    const left = this.store.waiting.length + this.store.sending;
    // The page showed something else meanwhile, and forgot what lies here.
    if (!left && this.store.count && data.known !== this.store.id) this.end();
    this.refresh();
  }

  async onDrop(event) {
    event.preventDefault();
    event.stopPropagation();
    this.area.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.length) {
      this.add([...event.dataTransfer.files].map((file) => ({ file, name: file.name })));
      return;
    }
    for (const entry of entries) { // the list of a drop is empty after the first pause, the entries are not
      try {
        this.add(await filesOf(entry, ""));
      } catch {
        this.refuse(this.data.labels.unreadable.replace("{name}", entry.name));
      }
    }
  }

  add(found) {
    if (this.data.single) Object.assign(this.store, emptied()); // the latest counts
    this.store.id ||= newId();
    this.store.waiting.push(...(this.data.single ? found.slice(0, 1) : found));
    // Until all of them are there a run could only begin over some.
    if (found.length && !this.data.single) this.tell("drop", { id: "", count: 0, is_coming: true });
    this.send();
  }

  refuse(problem) {
    this.store.problems.push(problem);
    this.refresh();
  }

  send() {
    while (this.store.sending < SENT_AT_ONCE && this.store.waiting.length) {
      const next = this.store.waiting.shift();
      this.store.sending += 1;
      this.sendOne(this.store.id, next).finally(() => {
        this.store.sending -= 1;
        this.store.sent += 1;
        this.send();
        if (!this.store.sending && !this.store.waiting.length) this.end();
      });
    }
    this.refresh();
  }

  async sendOne(id, { file, name }) {
    const query = new URLSearchParams({ name, lang: this.data.lang });
    try {
      const reply = await fetch(`${DROPS}/${id}?${query}`, { method: "POST", body: file, credentials: "same-origin" });
      const said = await reply.json();
      if (id !== this.store.id) return;
      if (said.problem) this.store.problems.push(said.problem);
      else if (said.count > this.store.count) Object.assign(this.store, { count: said.count, bytes: said.bytes });
    } catch {
      const said = (await isReadable(file)) ? this.data.labels.unreachable : this.data.labels.unreadable;
      this.store.problems.push(said.replace("{name}", name));
    }
  }

  end() {
    this.tell("drop", { id: this.store.count ? this.store.id : "", count: this.store.count, bytes: this.store.bytes });
    this.store.sent = 0;
    this.refresh();
  }

  clear() {
    if (this.store.id) fetch(`${DROPS}/${this.store.id}`, { method: "DELETE", credentials: "same-origin" }).catch(() => undefined);
    Object.assign(this.store, emptied());
    this.tell("drop", { id: "", count: 0, bytes: 0 });
    this.refresh();
  }

  refresh() {
    const say = this.data.labels;
    const left = this.store.waiting.length + this.store.sending;
    this.bar.hidden = !left;
    this.bar.value = this.store.sent / Math.max(1, this.store.sent + left);
    const there = this.store.count === 1 ? say.there_one : say.there;
    const words = left ? say.sending_some.replace("{left}", left) : there.replace("{bytes}", sized(this.store.bytes));
    const told = this.store.count || left ? words.replace("{count}", this.store.count) : "";
    if (this.told.textContent !== told) this.told.textContent = told;
    this.clearButton.hidden = !(this.store.count || this.store.problems.length) || left > 0;
    const problems = this.store.problems.slice(0, PROBLEMS_SHOWN);
    if (this.store.problems.length > PROBLEMS_SHOWN) problems.push(say.more.replace("{count}", this.store.problems.length - PROBLEMS_SHOWN));
    this.problems.replaceChildren(...problems.map((problem) => element("li", { text: problem })));
  }
}
