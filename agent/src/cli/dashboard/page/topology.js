// The picture of who calls whom. Arranged once for a set of calls, then only changed.

import { change, find, keep, say, shape } from "/dom.js";
import { bytes, percent, rate, short, SIGNS, tone, WORDS } from "/format.js";
import { arrange } from "/layout.js";

const BOX = { height: 58, row: 98, most: 208, least: 126 };
// Where the gap is narrower than `wide`, each word of a label has a line of its own.
const GAP = { least: 84, wide: 178, most: 340 };
const MARGIN = 14;
const TONES = ["good", "doubtful", "bad", "idle"];

const picture = find("picture");
const lines = shape("g", { class: "lines" });
const boxes = shape("g", { class: "boxes" });
const labels = shape("g", { class: "labels" });
picture.append(markers(), lines, boxes, labels);

// One arrow head for each tone.
function markers() {
  const head = (name) =>
    shape("marker", { id: `head-${name}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8,
      markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" },
      shape("path", { d: "M0 0L8 4L0 8Z", class: `tip ${name}` }));
  return shape("defs", {}, ...TONES.map(head));
}

export function edgeKey(edge) {
  return `${edge.from}\n${edge.to}`;
}

// What a workload answers, from all that call it.
export function judged(name, edges) {
  const calls = edges.filter((edge) => edge.to === name && edge.success_percent !== null);
  const weight = (edge) => edge.requests_per_second || edge.connections_per_second;
  const sum = calls.reduce((total, edge) => total + weight(edge), 0);
  const good = calls.reduce((total, edge) => total + weight(edge) * edge.success_percent, 0);
  return {
    rate: edges.filter((edge) => edge.to === name).reduce((total, edge) => total + edge.requests_per_second, 0),
    success: sum > 0 ? Math.min(100, good / sum) : null,
  };
}

// Draws `edges`; `selected` is a key of a workload or an edge, `select` is told what was chosen.
export function draw(edges, selected, select) {
  const names = [...new Set(edges.flatMap((edge) => [edge.from, edge.to]))].sort();
  const plan = planned(names, edges);
  const size = sized(plan, find("graph").clientWidth);
  change(picture, { width: size.width, height: size.height, viewBox: `0 0 ${size.width} ${size.height}` });
  find("graph-empty").hidden = names.length > 0;
  picture.toggleAttribute("hidden", names.length === 0);
  const near = neighbourhood(edges, selected);
  const ports = spread(edges, plan);
  const routes = new Map(edges.map((edge) => [edgeKey(edge), route(edge, plan, size, ports)]));
  const choose = (made, key) => clickable(made, () => select(key));
  keep(lines, edges, edgeKey, (edge) => choose(newLine(), edgeKey(edge)), (made, edge) => {
    drawLine(made, edge, routes.get(edgeKey(edge)), near);
  });
  keep(boxes, names, (name) => name, (name) => choose(newBox(), name), (made, name) => {
    drawBox(made, name, size.spot(plan.spots.get(name)), size, judged(name, edges), near, selected);
  });
  const placed = apart(edges.map((edge) => label(edge, routes.get(edgeKey(edge)).middle, size.wide)));
  keep(labels, placed, (one) => edgeKey(one.edge), (one) => choose(newLabel(), edgeKey(one.edge)), (made, one) => {
    drawLabel(made, one, near, selected);
  });
}

let last = { key: null, plan: null };

function planned(names, edges) {
  const key = edges.map(edgeKey).join("\n\n");
  if (key !== last.key) last = { key, plan: arrange(names, edges) };
  return last.plan;
}

// What belongs to the selection: everything where nothing is selected.
function neighbourhood(edges, selected) {
  if (selected === null) return { has: () => true };
  const near = new Set([selected]);
  for (const edge of edges) {
    if (selected === edge.from || selected === edge.to || selected === edgeKey(edge)) {
      [edge.from, edge.to, edgeKey(edge)].forEach((key) => near.add(key));
    }
  }
  return near;
}

function clickable(made, act) {
  made.addEventListener("click", act);
  made.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      act();
    }
  });
  return made;
}

// Boxes and gaps as wide as there is room for; more than fits is scrolled to.
function sized(plan, room) {
  const columns = plan.columns;
  const inner = room - 2 * MARGIN;
  const fair = (inner - (columns - 1) * GAP.wide) / columns;
  const box = Math.round(Math.max(BOX.least, Math.min(BOX.most, fair)));
  const gap = columns > 1 ? (inner - columns * box) / (columns - 1) : 0;
  const step = box + Math.round(Math.max(GAP.least, Math.min(GAP.most, gap)));
  const taken = box + (columns - 1) * step;
  const left = Math.max(MARGIN, (room - taken) / 2);
  const height = plan.rows * BOX.row + 2 * MARGIN - (BOX.row - BOX.height);
  const spot = ({ column, top }) => ({ x: left + column * step, y: MARGIN + top * BOX.row });
  return { box, wide: columns < 2 || gap >= GAP.wide, height: Math.max(height, 150), width: Math.max(room, taken + 2 * MARGIN), spot };
}

// How far from the middle of a box's side its edges begin and end, so that they do not all meet in one point.
function spread(edges, plan) {
  const height = (name) => plan.spots.get(name).top;
  const ports = new Map();
  const share = (side, other) => {
    const groups = new Map();
    for (const edge of edges.filter((edge) => plan.spots.get(edge.to).column > plan.spots.get(edge.from).column)) {
      groups.set(edge[side], [...(groups.get(edge[side]) ?? []), edge]);
    }
    for (const group of groups.values()) {
      group.sort((a, b) => height(a[other]) - height(b[other]));
      const step = Math.min(11, (BOX.height - 22) / group.length);
      group.forEach((edge, index) => ports.set(`${side}\n${edgeKey(edge)}`, (index - (group.length - 1) / 2) * step));
    }
  };
  share("from", "to");
  share("to", "from");
  return (side, edge) => ports.get(`${side}\n${edgeKey(edge)}`) ?? 0;
}

// A curve through the places that the layout kept free for it, and where its label stands.
function route(edge, plan, size, ports) {
  const [from, to] = [plan.spots.get(edge.from), plan.spots.get(edge.to)];
  const [start, end] = [size.spot(from), size.spot(to)];
  const half = BOX.height / 2;
  if (edge.from === edge.to) {
    const [x, y] = [start.x + size.box / 2, start.y];
    const path = `M${x - 24} ${y}C${x - 40} ${y - 30} ${x + 40} ${y - 30} ${x + 24} ${y}`;
    return { path, middle: { x, y: Math.max(12, y - 22) } };
  }
  if (to.column <= from.column) {
    // Back to who calls: below the way forth.
    const side = to.column === from.column ? size.box : 0;
    const [a, b] = [{ x: start.x + side, y: start.y + half + 16 }, { x: end.x + size.box, y: end.y + half + 16 }];
    const bow = side ? 60 : 0;
    const path = `M${a.x} ${a.y}C${(a.x + b.x) / 2 + bow} ${a.y} ${(a.x + b.x) / 2 + bow} ${b.y} ${b.x} ${b.y}`;
    return { path, middle: { x: (a.x + b.x) / 2 + bow * 0.75, y: (a.y + b.y) / 2 } };
  }
  const points = [{ x: start.x + size.box, y: start.y + half + ports("from", edge) }];
  for (const bend of plan.bends.get(edgeKey(edge)) ?? []) {
    const { x, y } = size.spot(bend);
    points.push({ x, y: y + half / 2 }, { x: x + size.box, y: y + half / 2 });
  }
  points.push({ x: end.x - 2, y: end.y + half + ports("to", edge) });
  let path = `M${points[0].x} ${points[0].y}`;
  for (let index = 1; index < points.length; index += 1) {
    const [a, b] = [points[index - 1], points[index]];
    const middle = (a.x + b.x) / 2;
    path += index % 2 === 1 ? `C${middle} ${a.y} ${middle} ${b.y} ${b.x} ${b.y}` : `L${b.x} ${b.y}`;
  }
  return { path, middle: { x: (points[0].x + points[1].x) / 2, y: (points[0].y + points[1].y) / 2 } };
}

// A label with its size: in one line where there is room.
function label(edge, at, wide) {
  const words = said(edge);
  const lines = wide ? [words.join(" · ")] : words;
  const width = Math.max(...lines.map((line) => line.length)) * 6.5 + 22;
  return { edge, x: at.x, y: at.y, lines, width, height: 21 + (lines.length - 1) * 14 };
}

// Labels that would cover each other move down.
function apart(all) {
  all.sort((a, b) => a.y - b.y || a.x - b.x);
  const placed = [];
  for (const one of all) {
    for (const other of placed) {
      const meets = Math.abs(other.x - one.x) < (other.width + one.width) / 2;
      const room = (other.height + one.height) / 2 + 3;
      if (meets && Math.abs(other.y - one.y) < room) one.y = other.y + room;
    }
    placed.push(one);
  }
  return placed;
}

// What is written at an edge: how much, how well, and whether some of it was not encrypted.
export function said(edge) {
  const plain = edge.encrypted ? [] : ["plain"];
  const word = tone(edge.success_percent);
  const sign = word === "bad" || word === "doubtful" ? `${SIGNS[word]} ` : "";
  const share = edge.success_percent === null ? [] : [sign + percent(edge.success_percent)];
  if (edge.requests_per_second > 0) return [`${rate(edge.requests_per_second)}/s`, ...share, ...plain];
  if (edge.open_connections > 0 || edge.connections_per_second > 0) {
    const flow = edge.bytes_per_second > 0 && share.length === 0 ? [`${bytes(edge.bytes_per_second)}/s`] : [];
    return [`${short(edge.open_connections)} open`, ...flow, ...share, ...plain];
  }
  return ["idle", ...plain];
}

function newLine() {
  return shape("g", {}, shape("path", { class: "hit" }), shape("path", { class: "line" }));
}

function drawLine(made, edge, route, near) {
  const name = tone(edge.success_percent);
  const width = 1.5 + Math.min(3, Math.log10(1 + edge.requests_per_second));
  change(made, { class: `edge ${name}${near.has(edgeKey(edge)) ? "" : " far"}`, "data-edge": edgeKey(edge) });
  change(made.firstChild, { d: route.path });
  change(made.lastChild, { d: route.path, "stroke-width": width.toFixed(1), "marker-end": `url(#head-${name})` });
}

function newBox() {
  return shape("g", { tabindex: 0, role: "button" },
    shape("title"),
    shape("rect", { class: "box", rx: 9, height: BOX.height }),
    shape("path", { class: "bar" }),
    shape("text", { class: "name", x: 16, y: 25 }),
    shape("text", { class: "detail", x: 16, y: 43 }),
    shape("circle", { class: "badge", r: 8.5, cy: 19 }),
    shape("text", { class: "sign", "text-anchor": "middle", y: 23 }));
}

function drawBox(made, name, at, size, health, near, selected) {
  const [namespace, workload] = name.includes("/") ? name.split("/", 2) : ["", name];
  const word = tone(health.success);
  const [title, box, bar, first, second, badge, sign] = made.children;
  const count = health.success === null ? "" : percent(health.success);
  const said = [health.rate > 0 ? `${rate(health.rate)}/s` : "", count].filter(Boolean);
  const room = (size.box - 22) / 6.2;
  const whole = [namespace || "not in the mesh", ...said].join(" · ");
  const detail = whole.length > room && said.length > 0 ? said.join(" · ") : whole;
  change(made, {
    class: `node ${word}${near.has(name) ? "" : " far"}${selected === name ? " selected" : ""}`,
    transform: `translate(${at.x} ${at.y})`, "data-node": name, "aria-pressed": selected === name,
    "aria-label": `${name}: ${health.success === null ? WORDS.idle : `${percent(health.success)} of ${rate(health.rate)} requests per second succeed`}`,
  });
  say(title, `${name}\n${WORDS[word]}`);
  change(box, { width: size.box });
  change(bar, { d: `M9 0H6A6 6 0 0 0 0 6V${BOX.height - 6}A6 6 0 0 0 6 ${BOX.height}H9Z` });
  say(first, fit(workload, (size.box - 46) / 8.2));
  say(second, fit(detail, room));
  change(badge, { cx: size.box - 17 });
  change(sign, { x: size.box - 17 });
  say(sign, health.success === null ? "" : SIGNS[word]);
  badge.toggleAttribute("hidden", health.success === null);
}

function newLabel() {
  const line = () => shape("text", { "text-anchor": "middle" });
  return shape("g", { tabindex: 0, role: "button" }, shape("title"), shape("rect", { rx: 10.5 }), line(), line(), line());
}

function drawLabel(made, { edge, x, y, width, height, lines }, near, selected) {
  const key = edgeKey(edge);
  const plain = edge.encrypted ? "" : " plain";
  change(made, {
    class: `label ${tone(edge.success_percent)}${plain}${near.has(key) ? "" : " far"}${selected === key ? " selected" : ""}`,
    transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, "data-label": key, "aria-pressed": selected === key,
    "aria-label": `${edge.from} calls ${edge.to}: ${lines.join(", ")}${edge.encrypted ? ", mutual TLS" : ", not all of it encrypted"}`,
  });
  const [title, box, ...texts] = made.children;
  const since = `${short(edge.total_requests)} requests, ${short(edge.total_connections)} connections since the agents started`;
  say(title, `${edge.from} → ${edge.to}\n${since}`);
  change(box, { x: -width / 2, y: -height / 2, width, height });
  texts.forEach((text, index) => {
    say(text, lines[index] ?? "");
    change(text, { y: 4 - (lines.length - 1) * 7 + index * 14 });
  });
}

function fit(text, most) {
  const room = Math.max(4, Math.floor(most));
  return text.length <= room ? text : `${text.slice(0, Math.ceil(room / 2) - 1)}…${text.slice(text.length - Math.floor(room / 2))}`;
}
