// Where workloads stand: columns from callers to what they call, few crossings. Pure, and the same for the same graph.

// A row of a workload; where an edge passes by, half of it is kept free.
const PASSING = 0.5;

// Spots of `names` for `edges` ({from, to}): column from 0, and how far down it stands, in rows; and, by "from\nto", the spots that
// a long edge passes through.
export function arrange(names, edges) {
  const links = forward(names, edges.filter((edge) => edge.from !== edge.to));
  const columns = ranked(names, links);
  const layers = [];
  for (const name of names) {
    (layers[columns.get(name)] ??= []).push(name);
  }
  const { short, passing } = split(links, columns, layers);
  for (let sweep = 0; sweep < 8; sweep += 1) {
    const down = sweep % 2 === 0;
    const order = layers.map((_, index) => (down ? index : layers.length - 1 - index));
    order.forEach((index) => sort(layers, index, short, down));
  }
  const high = (name) => (passing.has(name) ? PASSING : 1);
  const spots = new Map();
  layers.forEach((layer, column) => stand(layer, column, short, high, spots));
  const highest = Math.min(0, ...[...spots.values()].map((spot) => spot.top));
  spots.forEach((spot) => (spot.top -= highest));
  const bends = new Map();
  passing.forEach((edge, name) => bends.set(edge, [...(bends.get(edge) ?? []), spots.get(name)]));
  const rows = Math.max(1, ...[...spots].map(([name, spot]) => spot.top + high(name)));
  return { spots, bends, columns: Math.max(1, layers.length), rows };
}

// Each of a layer as near as can be to the middle of those that call it, in the order that it has.
function stand(layer, column, links, high, spots) {
  const wanted = layer.map((name) => {
    const callers = links.filter((link) => link.to === name).map((link) => spots.get(link.from).top + high(link.from) / 2);
    return callers.length > 0 ? callers.reduce((sum, one) => sum + one, 0) / callers.length - high(name) / 2 : null;
  });
  let free = -Infinity;
  const tops = layer.map((name, index) => {
    const top = Math.max(free, wanted[index] ?? Math.max(free, 0));
    free = top + high(name);
    return top;
  });
  const off = tops.map((top, index) => (wanted[index] === null ? 0 : top - wanted[index]));
  const shift = off.reduce((sum, one) => sum + one, 0) / layer.length;
  layer.forEach((name, index) => spots.set(name, { column, top: tops[index] - shift }));
}

// Edges that pass a column get a place of their own there: links from column to column, and whose the places are.
function split(links, columns, layers) {
  const short = [];
  const passing = new Map();
  for (const { from, to } of links) {
    let last = from;
    for (let column = columns.get(from) + 1; column < columns.get(to); column += 1) {
      const place = `${from}\n${to}\n${column}`;
      passing.set(place, `${from}\n${to}`);
      layers[column].push(place);
      short.push({ from: last, to: place });
      last = place;
    }
    short.push({ from: last, to });
  }
  return { short, passing };
}

// Edges without those that close a circle, found by a walk from those whom nobody calls.
function forward(names, edges) {
  const calls = new Map(names.map((name) => [name, []]));
  const called = new Set();
  for (const edge of edges) {
    calls.get(edge.from)?.push(edge.to);
    called.add(edge.to);
  }
  const state = new Map();
  const kept = [];
  const walk = (start) => {
    const stack = [[start, 0]];
    state.set(start, "open");
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      const next = calls.get(top[0])?.[top[1]++];
      if (next === undefined) {
        state.set(top[0], "done");
        stack.pop();
      } else if (state.get(next) !== "open") {
        kept.push({ from: top[0], to: next });
        if (!state.has(next) && calls.has(next)) {
          state.set(next, "open");
          stack.push([next, 0]);
        }
      }
    }
  };
  const order = [...names.filter((name) => !called.has(name)), ...names];
  order.filter((name) => !state.has(name)).forEach((name) => state.has(name) || walk(name));
  return kept;
}

// One to the right of every caller.
function ranked(names, links) {
  const columns = new Map(names.map((name) => [name, 0]));
  const waiting = new Map(names.map((name) => [name, 0]));
  links.forEach((link) => waiting.set(link.to, waiting.get(link.to) + 1));
  const ready = names.filter((name) => waiting.get(name) === 0);
  while (ready.length > 0) {
    const name = ready.shift();
    for (const link of links.filter((link) => link.from === name)) {
      columns.set(link.to, Math.max(columns.get(link.to), columns.get(name) + 1));
      waiting.set(link.to, waiting.get(link.to) - 1);
      if (waiting.get(link.to) === 0) ready.push(link.to);
    }
  }
  return columns;
}

// A layer by the middle of its neighbours on one side; who has none there stays.
function sort(layers, index, links, down) {
  const places = new Map();
  layers.forEach((layer) => layer.forEach((name, row) => places.set(name, (row + 0.5) / layer.length)));
  const middle = (name) => {
    const ends = links
      .filter((link) => (down ? link.to : link.from) === name)
      .map((link) => places.get(down ? link.from : link.to));
    return ends.length > 0 ? ends.reduce((sum, end) => sum + end, 0) / ends.length : places.get(name);
  };
  const middles = new Map(layers[index].map((name) => [name, middle(name)]));
  layers[index].sort((a, b) => middles.get(a) - middles.get(b));
}
