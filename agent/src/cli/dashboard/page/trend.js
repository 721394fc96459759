// Requests per second of the last two minutes, as a small line; only what this page has seen itself.

import { change, shape } from "/dom.js";

const LENGTH = 60;
const SIZE = { width: 96, height: 22 };
const seen = new Map();

// Takes note of `rows`, each with a key and a value; what is not among them is forgotten.
export function remember(rows) {
  const keys = new Set();
  for (const { key, value } of rows) {
    keys.add(key);
    seen.set(key, [...(seen.get(key) ?? []), value].slice(-LENGTH));
  }
  for (const key of seen.keys()) {
    if (!keys.has(key)) seen.delete(key);
  }
}

// Draws what is known of a key into a cell.
export function trend(cell, key) {
  if (!cell.firstChild) {
    const view = `0 0 ${SIZE.width} ${SIZE.height}`;
    cell.append(shape("svg", { ...SIZE, viewBox: view, class: "trend", "aria-hidden": "true" }, shape("path", { class: "under" }), shape("path", { class: "over" })));
  }
  const values = seen.get(key) ?? [];
  const most = Math.max(1, ...values);
  const step = SIZE.width / (LENGTH - 1);
  const left = (LENGTH - values.length) * step;
  const point = (value, index) => `${(left + index * step).toFixed(1)} ${(SIZE.height - 2 - (value / most) * (SIZE.height - 5)).toFixed(1)}`;
  const line = values.length > 1 ? `M${values.map(point).join("L")}` : "";
  const [under, over] = cell.firstChild.children;
  change(over, { d: line });
  change(under, { d: line && `${line}L${SIZE.width} ${SIZE.height}L${left.toFixed(1)} ${SIZE.height}Z` });
}
