/* Rows of the side bar: pages to open, and facts that explain themselves on click.
 *
 * Knows what Python tells it and says back which page was clicked. A row stays the same element while its words change,
 * so that an explanation that is being read stays open.
 */

const instances = new WeakMap();

export default function rows(component) {
  let shown = instances.get(component.parentElement);
  if (!shown) {
    shown = new Rows(component.parentElement);
    instances.set(component.parentElement, shown);
  }
  shown.update(component.data, component.setTriggerValue);
}

const ICONS = {
  records: "M4 12a8 8 0 1 0 2.4-5.7L4 8.5M4 3.5v5h5M12 8v4.5l3 2",
  batch: "M3 6.5h6.5l2 2.5H21v10.5H3z",
  forms: "M9 4H5v16h14V4h-4M9 3h6v3.5H9zM8.5 13.5l2.4 2.4 4.6-4.8",
  settings: "M4 7h9M17 7h3M13 4.5v5M4 17h3M11 17h9M11 14.5v5",
  doctor: "M3 12.5h4.5l2.5-6.5 4 12.5 2.5-6H21",
  model: "M2.5 12c2.4-4.2 5.6-6.3 9.5-6.3s7.1 2.1 9.5 6.3c-2.4 4.2-5.6 6.3-9.5 6.3S4.9 16.2 2.5 12zM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
  device: "M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4",
  queue: "M4 5h16v14H4zM4 13.5h4.5l1.5 2.5h4l1.5-2.5H20",
  offline: "M12 3l7.5 3v5.5c0 4.5-3 7.7-7.5 9.5-4.5-1.8-7.5-5-7.5-9.5V6zM9 12l2.2 2.2L15 10",
  notices: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5.5M12 7.5v.3",
};
const icon = (name) => lineDrawing(ICONS[name], 17, 1.7);

class Rows {
  constructor(parent) {
    this.parent = parent;
    this.rows = [];
    this.list = element("div", { class: "rows" });
    this.parent.append(this.list);
  }

  update(data, tell) {
    this.tell = tell;
    if (data.label) {
      this.list.setAttribute("role", "navigation");
      this.list.setAttribute("aria-label", data.label);
    }
    while (this.rows.length > data.rows.length) this.rows.pop().leave();
    data.rows.forEach((row, at) => (this.rows[at] ??= new Row(this)).show(row));
  }
}

class Row {
  constructor(owner) {
    this.owner = owner;
    this.words = element("span", { class: "words" });
    this.drawing = element("span", { class: "icon", "aria-hidden": "true" });
    this.button = element("button", { type: "button", on: { click: () => this.clicked() } }, this.drawing, this.words);
    this.told = element("div", { class: "told", popover: "auto", role: "note", on: { toggle: (event) => this.toggled(event) } });
    this.owner.list.append(this.button, this.told);
  }

  show(row) {
    const said = JSON.stringify(row);
    if (said === this.said) return;
    const before = this.row;
    this.said = said;
    this.row = row;
    this.words.textContent = row.label;
    this.button.title = row.html ? "" : row.label;
    this.button.dataset.row = row.name;
    if (before?.name !== row.name) this.drawing.replaceChildren(icon(row.name));
    this.button.classList.toggle("open", Boolean(row.is_open));
    if (row.is_open) this.button.setAttribute("aria-current", "page");
    else this.button.removeAttribute("aria-current");
    this.button.popoverTargetElement = row.html ? this.told : null;
    if (row.html && before?.html !== row.html) this.told.innerHTML = row.html; // the page's own sentences, made by Python
    this.told.setAttribute("aria-label", row.label);
  }

  clicked() {
    if (!this.row.html) this.owner.tell("did", { act: this.row.act });
  }

  toggled(event) {
    if (event.newState !== "open") return;
    const place = this.button.getBoundingClientRect();
    const top = Math.max(8, Math.min(place.top, innerHeight - this.told.offsetHeight - 12));
    Object.assign(this.told.style, { left: `${Math.round(place.right + 10)}px`, top: `${Math.round(top)}px` });
    if (place.right + 10 + this.told.offsetWidth > innerWidth) {
      const above = Math.max(8, place.top - this.told.offsetHeight - 6);
      Object.assign(this.told.style, { left: `${Math.round(place.left)}px`, top: `${Math.round(above)}px` });
    }
  }

  leave() {
    this.button.remove();
    this.told.remove();
  }
}
