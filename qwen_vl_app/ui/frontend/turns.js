/* Turns as HTML that Python made: one element for many turns, of which only those that changed are drawn anew.
 *
 * Knows pairs of a key and the HTML that stands under it, one element each. Does not know what is in it, or what its buttons do: the composer
 * hears clicks on the whole page. What a person unfolded or selected stays, for an unchanged turn is never touched.
 */

const instances = new WeakMap();

export default function turns(component) {
  let shown = instances.get(component.parentElement);
  if (!shown) {
    shown = new Turns(component.parentElement);
    instances.set(component.parentElement, shown);
  }
  shown.update(component.data.turns);
}

class Turns {
  constructor(parent) {
    this.list = element("div", { class: "qvl-turns" });
    this.shown = new Map();
    parent.append(this.list);
  }

  update(turns) {
    const before = this.shown;
    this.shown = new Map(turns.map(([key, html]) => [key, before.get(key) ?? { html: "", made: null }]));
    for (const [key, { made }] of before) if (!this.shown.has(key)) made.remove();
    const fresh = turns.filter(([key, html]) => this.shown.get(key).html !== html);
    if (fresh.length) {
      // All of them are read at once: one call costs as much as thirty.
      const read = element("template");
      read.innerHTML = fresh.map(([, html]) => html).join("");
      const made = [...read.content.children];
      fresh.forEach(([key, html], at) => {
        this.shown.get(key).made?.remove();
        this.shown.set(key, { html, made: made[at] });
      });
    }
    let last = null;
    for (const [key] of turns) {
      const { made } = this.shown.get(key);
      const next = last ? last.nextSibling : this.list.firstChild;
      if (next !== made) this.list.insertBefore(made, next);
      last = made;
    }
  }
}
