// The tables of services and connections: rows that stay are changed in place, columns sort by a click on their heads.

import { change, element, find, keep, say } from "/dom.js";
import { age, bytes, micros, percent, rate, short, SIGNS, tone, WORDS } from "/format.js";
import { remember, trend } from "/trend.js";

// A table with these columns: title, sort value, what fills a cell. `empty` is said where there are no rows.
function table(root, columns, sorted, empty) {
  const order = { ...sorted };
  let shown = [];
  const heads = columns.map((column, index) => {
    const button = element("button", { type: "button", title: column.title ?? null }, column.name);
    button.addEventListener("click", () => {
      order.down = order.by === index ? !order.down : Boolean(column.number);
      order.by = index;
      update(shown);
    });
    return element("th", { scope: "col", class: column.class ?? null }, button);
  });
  const body = element("tbody");
  const none = element("p", { class: "empty" }, empty);
  root.append(element("thead", {}, element("tr", {}, ...heads)), body);
  root.after(none);

  function update(rows) {
    shown = rows;
    const column = columns[order.by];
    const sorted = column ? [...rows].sort(by(column.value, order.down)) : rows;
    heads.forEach((head, index) => {
      const way = order.down ? "descending" : "ascending";
      change(head, { "aria-sort": index === order.by ? way : null });
    });
    keep(body, sorted, (row) => row.key, () => element("tr", {}, ...columns.map((one) => element("td", { class: one.class ?? null }))),
      (made, row) => {
        change(made, { class: row.class ?? null, "data-key": row.key });
        columns.forEach((one, index) => one.fill(made.children[index], row));
      });
    none.hidden = rows.length > 0;
    root.hidden = rows.length === 0;
  }
  return update;
}

// What is not known is last, whichever way.
function by(value, down) {
  return (a, b) => {
    const [one, other] = [value(a), value(b)];
    if (one === other) return 0;
    if (one === null || one === undefined) return 1;
    if (other === null || other === undefined) return -1;
    const less = typeof one === "string" ? one.localeCompare(other) : one - other;
    return down ? -less : less;
  };
}

// A cell of a text with a second, quieter one.
function two(cell, first, second, title) {
  if (cell.children.length === 0) cell.append(element("span"), element("span", { class: "quiet" }));
  say(cell.firstChild, first);
  say(cell.lastChild, second ?? "");
  change(cell, { title: title ?? null });
}

function success(cell, value) {
  if (cell.children.length === 0) {
    cell.append(element("span", { class: "mark" }), element("span"), element("meter", { min: 0, max: 100, "aria-hidden": "true" }));
  }
  const word = tone(value);
  change(cell, { class: `number success ${word}`, title: WORDS[word] });
  say(cell.children[0], SIGNS[word]);
  say(cell.children[1], percent(value));
  cell.children[2].value = value ?? 0;
  cell.children[2].hidden = value === null;
}

const text = (value) => (cell, row) => say(cell, value(row));
const number = (name, value, shown, title) => ({ name, title, number: true, class: "number", value, fill: text((row) => shown(value(row))) });

const updateServices = table(find("services"), [
  { name: "Service", value: (row) => `${row.name}.${row.namespace}`, fill: (cell, row) => {
    two(cell, row.name, `.${row.namespace}:${row.port}`, `${short(row.total_requests)} requests since the agents started`);
  } },
  { name: "Trend", class: "trend", title: "Requests per second, the last two minutes", value: (row) => row.rates.requests_per_second,
    fill: (cell, row) => trend(cell, row.key) },
  number("Req/s", (row) => row.rates.requests_per_second, rate, "Requests per second"),
  { name: "Success", number: true, class: "number", value: (row) => row.rates.success_percent, fill: (cell, row) => success(cell, row.rates.success_percent) },
  number("p50", (row) => row.rates.p50_us, micros, "Half of the requests are answered within"),
  number("p99", (row) => row.rates.p99_us, micros, "99 of 100 requests are answered within"),
  number("Retry/s", (row) => row.rates.retries_per_second, rate, "Attempts beside the first, per second"),
  { name: "Endpoints", number: true, class: "number", value: (row) => row.endpoints,
    fill: (cell, row) => {
      const out = row.ejected > 0 ? ` · ${row.ejected} ejected` : "";
      two(cell, `${row.endpoints}/${row.known_endpoints}`, out, "Endpoints that may be used, of those that are known");
      change(cell, { class: `number${row.ejected > 0 || row.endpoints === 0 ? " warn" : ""}` });
    } },
], { by: 0, down: false }, "No services here");

const SECURITY = { mutual_tls: "mTLS", none: "plain" };

const updateConnections = table(find("connections"), [
  { name: "State", value: (row) => row.state, fill: (cell, row) => {
    if (cell.children.length === 0) cell.append(element("span"));
    say(cell.firstChild, row.state);
    change(cell.firstChild, { class: `pill ${row.state}` });
  } },
  { name: "Source", value: (row) => row.source, fill: (cell, row) => two(cell, row.source, identity(row.source_identity), row.source_identity) },
  { name: "Destination", value: (row) => row.destination, fill: (cell, row) => {
    const via = row.service && row.service !== row.destination ? ` via ${row.service}` : "";
    two(cell, row.destination + via, identity(row.destination_identity), row.destination_identity ?? row.endpoint);
  } },
  { name: "Security", value: (row) => row.security, fill: (cell, row) => {
    if (cell.children.length === 0) cell.append(element("span"));
    say(cell.firstChild, SECURITY[row.security] ?? row.security);
    change(cell.firstChild, { class: `pill ${row.security}` });
  } },
  { name: "Protocol", value: (row) => row.protocol, fill: text((row) => row.protocol ?? "–") },
  number("Received", (row) => row.received_bytes, bytes, "From the client to the server"),
  number("Sent", (row) => row.sent_bytes, bytes, "From the server to the client"),
  number("RTT", (row) => row.round_trip_us, (value) => (value ? micros(value) : "–"), "Round trip on the network's side"),
  number("Age", (row) => row.age_ms, age),
  { name: "Ended", value: (row) => row.reason, fill: (cell, row) => {
    two(cell, row.reason ?? "", row.ended_by ? ` by ${row.ended_by}` : "", row.policy);
  } },
], { by: null, down: false }, "No connections here");

// The part of a SPIFFE identity that says who, the trust domain left out.
function identity(principal) {
  if (!principal) return "";
  const at = principal.indexOf("/ns/");
  return at < 0 ? principal : principal.slice(at + 1);
}

const serviceKey = (row) => `${row.namespace}/${row.name}:${row.port}`;

// Takes note of what all services do, whether they are shown or not.
export function noteServices(rows) {
  remember(rows.map((row) => ({ key: serviceKey(row), value: row.rates.requests_per_second })));
}

export function showServices(rows, more) {
  updateServices(rows.map((row) => ({ ...row, key: serviceKey(row) })));
  say(find("services-count"), count(rows.length, "service", more));
}

export function showConnections(rows, more) {
  updateConnections(rows.map((row) => ({ ...row, key: row.id, class: row.state === "closed" ? "over" : null })));
  say(find("connections-count"), count(rows.length, "connection", more));
}

function count(length, what, more) {
  return `${length}${more ? "+" : ""} ${what}${length === 1 ? "" : "s"}`;
}
