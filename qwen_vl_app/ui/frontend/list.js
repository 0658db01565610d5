/* The list of conversations: search, rows by day, and a menu for each that costs nothing until it is wanted.
 *
 * Knows what Python tells it and says back what was clicked. Does not know what a conversation holds.
 */

const SEARCH_AFTER_MS = 250;
const instances = new WeakMap();

export default function list(component) {
  let shown = instances.get(component.parentElement);
  if (!shown) {
    shown = new List(component.parentElement);
    instances.set(component.parentElement, shown);
  }
  shown.update(component.data, component.setTriggerValue, component.setStateValue);
}

const ICONS = {
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l5 5",
  clear: "M6 6l12 12M18 6L6 18",
  chat: "M4 5h16v11H10l-4 4v-4H4z",
  pin: "M9 3h6l-1 7 4 3v2H6v-2l4-3zM12 15v6",
};
const icon = (name) => lineDrawing(ICONS[name], 16, 1.8);

class List {
  constructor(parent) {
    this.parent = parent;
    this.wanted = "";
    this.search = element("input", {
      type: "search", autocomplete: "off", spellcheck: "false", "data-testid": "list-search",
      on: {
        input: () => this.searchSoon(),
        keydown: (event) => {
          if (event.isComposing || event.keyCode === 229) return; // a word of Chinese is chosen or given up
          if (event.key === "Enter") this.searchNow();
          else if (event.key === "Escape" && this.search.value) { event.stopPropagation(); this.clearSearch(); }
          else if (event.key === "ArrowDown") { event.preventDefault(); this.rows()[0]?.focus(); }
        },
      },
    });
    this.clear = element("button", { type: "button", class: "clear", on: { click: () => this.clearSearch() } }, icon("clear"));
    this.body = element("nav", { class: "body", on: { keydown: (event) => this.onKey(event) } });
    this.menu = element("div", { class: "menu", role: "menu", popover: "auto", on: { keydown: (event) => this.onMenuKey(event) } });
    const field = element("div", { class: "field" }, icon("search"), this.search, this.clear);
    this.parent.append(element("div", { class: "top" }, field), this.body, this.menu);
  }

  update(data, tell, keep) {
    this.data = data;
    this.tell = tell;
    this.keep = keep;
    const say = data.labels;
    this.search.placeholder = say.search;
    this.search.setAttribute("aria-label", say.search);
    this.clear.setAttribute("aria-label", say.clear);
    this.clear.title = say.clear;
    this.clear.hidden = !this.search.value;
    this.body.setAttribute("aria-label", say.list);
    const shown = JSON.stringify(data);
    if (shown === this.shown) return;
    this.shown = shown;
    const focused = this.focused()?.dataset.focus;
    this.body.replaceChildren(
      ...data.hits.map((hit) => this.hit(hit)),
      ...data.groups.flatMap((group) => [element("h3", { text: group.name }), element("ul", {}, ...group.rows.map((row) => this.row(row)))]),
      ...(data.note ? [element("p", { class: "note", text: data.note })] : []),
      ...(data.has_older ? [element("button", { type: "button", class: "older", text: say.older, on: { click: () => this.did("older") } })] : []),
    );
    if (focused) this.body.querySelector(`[data-focus="${focused}"]`)?.focus();
  }

  focused() {
    const root = this.parent.getRootNode();
    return this.body.contains(root.activeElement) ? root.activeElement : null;
  }

  did(act, more = {}) {
    this.tell("did", { act, ...more });
  }

  /* Rows */

  picture(row) {
    const made = element("span", { class: "picture", "aria-hidden": "true" });
    if (row.thumbnail) made.append(element("img", { src: row.thumbnail, alt: "", loading: "lazy" }));
    else made.append(icon("chat"));
    return made;
  }

  row(row) {
    const say = this.data.labels;
    const isOpen = row.id === this.data.open;
    return element("li", { class: isOpen ? "row open" : "row" },
      element("button", {
        type: "button", class: "title", "data-testid": "conversation", "data-focus": `row-${row.id}`, title: row.title,
        "aria-current": isOpen ? "page" : null, on: { click: () => this.did("open", { conversation: row.id }) },
      }, this.picture(row), element("span", { class: "words", text: row.title }), row.is_pinned ? icon("pin") : null),
      element("button", {
        type: "button", class: "more", "data-focus": `more-${row.id}`, "aria-haspopup": "menu", text: "⋯",
        "aria-label": say.more_of.replace("{title}", row.title), title: say.more_of.replace("{title}", row.title),
        on: { click: (event) => this.openMenu(row, event.currentTarget) },
      }));
  }

  hit(hit) {
    const snippet = element("span", { class: "snippet" });
    for (const [text, isMatch] of hit.pieces) snippet.append(isMatch ? element("mark", { text }) : text);
    return element("button", {
      type: "button", class: "title hit", "data-testid": "search-hit", "data-focus": `hit-${hit.turn}`,
      on: { click: () => this.did("open", { conversation: hit.id, turn: hit.turn }) },
    }, this.picture(hit), element("span", { class: "words" },
      element("span", { class: "name", text: hit.title }), snippet, element("span", { class: "when", text: hit.when })));
  }

  rows() {
    return [...this.body.querySelectorAll("button.title")];
  }

  onKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const rows = this.rows();
    const at = rows.indexOf(this.focused());
    if (!step || at < 0) return;
    event.preventDefault();
    (rows[at + step] ?? (step < 0 ? this.search : rows[at])).focus();
  }

  /* The menu of a row */

  openMenu(row, opener) {
    const say = this.data.labels;
    const item = (act, label, more = {}) => element("button", {
      type: "button", role: "menuitem", tabindex: "-1", text: label, class: act,
      on: { click: () => { this.menu.hidePopover(); this.did(act, { conversation: row.id, ...more }); } },
    });
    this.menu.replaceChildren(
      item("pin", row.is_pinned ? say.unpin : say.pin, { on: row.is_pinned ? 0 : 1 }),
      item("rename", say.rename),
      ...(this.data.may_erase ? [item("delete", say.delete)] : []),
    );
    this.opener = opener;
    this.menu.setAttribute("aria-label", say.more_of.replace("{title}", row.title));
    this.menu.showPopover();
    const place = opener.getBoundingClientRect();
    const top = Math.min(place.bottom + 4, innerHeight - this.menu.offsetHeight - 8);
    Object.assign(this.menu.style, { left: `${Math.round(place.left)}px`, top: `${Math.round(top)}px` });
    this.menu.firstElementChild.focus();
  }

  onMenuKey(event) {
    const items = [...this.menu.children];
    const at = items.indexOf(this.parent.getRootNode().activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      items[(at + step + items.length) % items.length].focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      event.preventDefault();
      event.stopPropagation();
      this.menu.hidePopover();
      this.opener?.focus();
    }
  }

  /* Searching */

  searchSoon() {
    this.clear.hidden = !this.search.value;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.searchNow(), SEARCH_AFTER_MS);
  }

  searchNow() {
    clearTimeout(this.timer);
    const wanted = this.search.value.trim();
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    this.keep("search", wanted);
  }

  clearSearch() {
    this.search.value = "";
    this.searchSoon();
    this.searchNow();
    this.search.focus();
  }
}
