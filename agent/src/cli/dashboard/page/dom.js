// Elements, made and changed without markup: whatever comes from the cluster becomes text or an attribute's value, never HTML.

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes and children. An attribute that is null or false is left out; children are elements or texts.
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

// The same of SVG.
export function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  change(made, attributes);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Sets attributes that differ, so that nothing is drawn again that stays.
export function change(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) {
      made.removeAttribute(name);
    } else if (made.getAttribute(name) !== String(value)) {
      made.setAttribute(name, String(value));
    }
  }
}

// Sets a text that differs.
export function say(made, text) {
  if (made.textContent !== text) {
    made.textContent = text;
  }
}

// Makes the children of `parent` those of `items`, in order: one for each key is made once, then only changed.
export function keep(parent, items, key, make, update) {
  const known = (parent.kept ??= new Map());
  const wanted = new Set();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    if (wanted.has(name)) continue;
    wanted.add(name);
    let child = known.get(name);
    if (!child) {
      child = make(item);
      known.set(name, child);
    }
    update(child, item);
    if (child === place) {
      place = place.nextElementSibling;
    } else {
      parent.insertBefore(child, place);
    }
  }
  for (const [name, child] of known) {
    if (!wanted.has(name)) {
      child.remove();
      known.delete(name);
    }
  }
}

export function find(id) {
  return document.getElementById(id);
}
