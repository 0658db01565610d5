/* Stands for a part of the page until its own file is there: fetched and read once for a page, however often the part is drawn.
 *
 * Knows the address of the file, which Python puts before it. Does not know what the part does.
 */

const files = (window.qvlParts ??= {});
const standing = (window.qvlStanding ??= new WeakMap()); // in each place, the file that drew there and how it leaves
window.qvlMeansText = meansText;
window.qvlEarly ??= early();
const AGAIN_AFTER_MS = 500;
const AGAIN_WITHIN_MS = 15000;
const FIELDS = 'textarea, input:not([type="radio"], [type="checkbox"], [type="file"]), [data-testid="stDataFrame"]';

export default function part(component) {
  const file = (files[AT] ??= fetched());
  if (file.draw) return drawn(file, component);
  const place = component.parentElement;
  let leave;
  file.latest.set(place, component);
  file.isThere.then(() => {
    if (file.draw && file.latest.get(place) === component) leave = drawn(file, component);
  });
  return () => {
    if (file.latest.get(place) === component) file.latest.delete(place);
    leave?.();
  };
}

/* A server that was brought up to date under the open page has another file for a place: what the former one drew goes. */
function drawn(file, component) {
  const place = component.parentElement;
  const before = standing.get(place);
  if (before && before.file !== file) {
    before.leave?.();
    for (const child of [...place.children]) if (!child.querySelector("style")) child.remove(); // the rules are Streamlit's to change
  }
  const leave = file.draw(component);
  standing.set(place, { file, leave });
  return leave;
}

function fetched() {
  const file = { latest: new WeakMap() };
  file.isThere = load(0).then((made) => { file.draw = made.default; });
  return file;
}

/* Under another address each time: a browser may remember that a module could not be had. */
function load(times) {
  return import(new URL(times ? `${AT}?again=${times}` : AT, location.origin).href).catch(async () => {
    await new Promise((done) => setTimeout(done, Math.min(AGAIN_AFTER_MS * 2 ** times, AGAIN_WITHIN_MS)));
    return load(times + 1);
  });
}

/* Files that are dropped or pasted on the page before the composer is there: the browser would leave the page for them. */
function early() {
  const files = [];
  const heard = { dragover: "dataTransfer", drop: "dataTransfer", paste: "clipboardData" };
  const hear = (event) => {
    const carried = event[heard[event.type]];
    if (event.defaultPrevented || ![...(carried?.types ?? [])].includes("Files")) return; // a place of its own has it
    if (event.type === "paste" && meansText(event)) return;
    event.preventDefault();
    if (event.type !== "dragover") files.push(...carried.files);
  };
  for (const type of Object.keys(heard)) document.addEventListener(type, hear);
  return {
    handOver: () => {
      for (const type of Object.keys(heard)) document.removeEventListener(type, hear);
      return files.splice(0);
    },
  };
}

/* Whether words are meant by a paste that brings a picture, too: office programs put one of the cells or the page beside them, and where
 * one writes, words are. A browser's own picture comes with HTML and no words, one of a text program with blanks. */
function meansText(event, composer) {
  const said = (kind) => event.clipboardData.getData(kind).trim();
  const takesWords = (place) => place !== composer && (place.isContentEditable || place.matches?.(FIELDS));
  return Boolean(said("text/plain") && (said("text/html") || event.composedPath().some(takesWords)));
}
