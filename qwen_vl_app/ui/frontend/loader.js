/* Stands for a part of the page until its own file is there: fetched and read once for a page, however often the part is drawn.
 *
 * Knows the address of the file, which Python puts before it. Does not know what the part does.
 */

const files = (window.qvlParts ??= {});

export default function part(component) {
  const file = (files[AT] ??= fetched());
  if (file.draw) return file.draw(component);
  const place = component.parentElement;
  let leave;
  file.latest.set(place, component);
  file.isThere.then(() => {
    if (file.draw && file.latest.get(place) === component) leave = file.draw(component);
  });
  return () => {
    if (file.latest.get(place) === component) file.latest.delete(place);
    leave?.();
  };
}

function fetched() {
  const file = { latest: new WeakMap() };
  file.isThere = import(new URL(AT, location.origin).href).then(
    (made) => { file.draw = made.default; },
    () => { delete files[AT]; }, // the server is away: tried again when the part is drawn again
  );
  return file;
}
