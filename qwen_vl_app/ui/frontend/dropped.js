/* Where pictures for a run are dropped: files or whole folders, sent one after the other to the app's own folder.
 *
 * Knows the page's drop route and tells Python which drop there is and what lies in it. Does not know what is asked
 * about the files. The store outlives the elements, for Streamlit may draw them anew.
 */

const DROPS = "/app/drops";
const SENT_AT_ONCE = 2;
const PROBLEMS_SHOWN = 5;

const store = (window.qvlDropped ??= { id: "", token: "", waiting: [], sending: 0, sent: 0, count: 0, bytes: 0, problems: [] });
const instances = new WeakMap();

export default function dropped(component) {
  let shown = instances.get(component.parentElement);
  if (!shown) {
    shown = new Dropped(component.parentElement);
    instances.set(component.parentElement, shown);
  }
  shown.update(component.data, component.setStateValue);
}

function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
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
  constructor(parent) {
    this.data = { labels: {} };
    const picker = (more) => element("input", {
      type: "file", multiple: true, hidden: true, tabindex: "-1", ...more,
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
    if (data.token !== store.token) { // a run has begun over what lay here
      Object.assign(store, { id: "", token: data.token, waiting: [], sent: 0, count: 0, bytes: 0, problems: [] });
    }
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
    store.id ||= newId();
    store.waiting.push(...found);
    this.send();
  }

  refuse(problem) {
    store.problems.push(problem);
    this.refresh();
  }

  send() {
    while (store.sending < SENT_AT_ONCE && store.waiting.length) {
      const next = store.waiting.shift();
      store.sending += 1;
      this.sendOne(store.id, next).finally(() => {
        store.sending -= 1;
        store.sent += 1;
        this.send();
        if (!store.sending && !store.waiting.length) this.end();
      });
    }
    this.refresh();
  }

  async sendOne(id, { file, name }) {
    const query = new URLSearchParams({ name, lang: this.data.lang });
    try {
      const reply = await fetch(`${DROPS}/${id}?${query}`, { method: "POST", body: file, credentials: "same-origin" });
      const said = await reply.json();
      if (id !== store.id) return;
      if (said.problem) store.problems.push(said.problem);
      else if (said.count > store.count) Object.assign(store, { count: said.count, bytes: said.bytes });
    } catch {
      store.problems.push(this.data.labels.unreachable.replace("{name}", name));
    }
  }

  end() {
    this.tell("drop", { id: store.count ? store.id : "", count: store.count, bytes: store.bytes });
    store.sent = 0;
    this.refresh();
  }

  clear() {
    if (store.id) fetch(`${DROPS}/${store.id}`, { method: "DELETE", credentials: "same-origin" }).catch(() => undefined);
    Object.assign(store, { id: "", waiting: [], sent: 0, count: 0, bytes: 0, problems: [] });
    this.tell("drop", { id: "", count: 0, bytes: 0 });
    this.refresh();
  }

  refresh() {
    const say = this.data.labels;
    const left = store.waiting.length + store.sending;
    this.bar.hidden = !left;
    this.bar.value = store.sent / Math.max(1, store.sent + left);
    const megabytes = (store.bytes / 1e6).toFixed(store.bytes < 1e7 ? 1 : 0);
    const words = left ? say.sending_some.replace("{left}", left) : say.there.replace("{bytes}", megabytes);
    const told = store.count || left ? words.replace("{count}", store.count) : "";
    if (this.told.textContent !== told) this.told.textContent = told;
    this.clearButton.hidden = !(store.count || store.problems.length) || left > 0;
    const problems = store.problems.slice(0, PROBLEMS_SHOWN);
    if (store.problems.length > PROBLEMS_SHOWN) problems.push(say.more.replace("{count}", store.problems.length - PROBLEMS_SHOWN));
    this.problems.replaceChildren(...problems.map((problem) => element("li", { text: problem })));
  }
}
