/* Elements and drawings, as every part of the page that runs in the browser makes them.
 *
 * Put before each part's own file: such a part is one module, and may load no other. Does not know what they are for.
 * What several parts have to know of files stands here, too.
 */

const SVG = "http://www.w3.org/2000/svg";

function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  const { text, on, ...attributes } = options;
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  for (const [event, listener] of Object.entries(on ?? {})) made.addEventListener(event, listener);
  made.append(...children.filter(Boolean));
  return made;
}

function drawn(tag, attributes = {}) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/* `side` is in pixels at the usual size of letters; the drawing grows with them. */
function lineDrawing(path, side, thick) {
  const made = drawn("svg", { viewBox: "0 0 24 24", width: `${side / 15}rem`, height: `${side / 15}rem`, "aria-hidden": "true" });
  made.append(drawn("path", {
    d: path, fill: "none", stroke: "currentColor", "stroke-width": thick, "stroke-linecap": "round", "stroke-linejoin": "round",
  }));
  return made;
}

/* A folder cannot be read, nor a file that was moved meanwhile; for a request the browser says of it what it says where the app is away. */
function isReadable(file) {
  return file.slice(0, 1).arrayBuffer().then(() => true, () => false);
}
