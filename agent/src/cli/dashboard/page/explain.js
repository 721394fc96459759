// The form that asks `posthaste explain`, and its answer: the same steps as the command shows.

import { element, find, keep } from "/dom.js";
import { micros, percent } from "/format.js";

let asked = 0;

// `ask(path)` answers a promise of { ok, status, text }.
export function connectForm(ask) {
  find("question").addEventListener("submit", async (event) => {
    event.preventDefault();
    const mine = ++asked;
    const verdict = find("verdict");
    verdict.replaceChildren(element("p", { class: "note" }, "Asking…"));
    const answer = await ask(`/api/explain?${question()}`);
    // A later question has its own answer.
    if (mine !== asked) return;
    verdict.replaceChildren(...(answer.ok ? explained(JSON.parse(answer.text)) : [refused(answer)]));
  });
  find("tcp").addEventListener("change", (event) => {
    for (const id of ["method", "path", "header"]) find(id).disabled = event.target.checked;
  });
}

// Pods and services to choose from.
export function suggest(pods, services) {
  const option = (value) => element("option", { value });
  const nothing = () => {};
  keep(find("pods"), pods.slice(0, 500), (pod) => pod, option, nothing);
  const names = services.slice(0, 500).map((one) => `${one.name}.${one.namespace}:${one.port}`);
  keep(find("destinations"), names, (name) => name, option, nothing);
}

function question() {
  const pairs = [["source", find("source").value], ["destination", find("destination").value]];
  if (find("tcp").checked) {
    pairs.push(["tcp", "true"]);
  } else {
    pairs.push(["method", find("method").value], ["path", find("path").value]);
    find("header").value.split("\n").forEach((line) => pairs.push(["header", line]));
  }
  const given = pairs.map(([name, value]) => [name, value.trim()]).filter(([, value]) => value !== "");
  return given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
}

function refused(answer) {
  const what = answer.status === 0 ? "The dashboard does not answer." : answer.text;
  return element("p", { class: "outcome bad" }, mark("✕", "refused"), element("span", {}, what));
}

function mark(sign, word) {
  return element("span", { class: "mark" }, element("span", { "aria-hidden": "true" }, sign), element("span", { class: "hidden" }, word));
}

function explained(view) {
  const head = `${view.source} → ${view.destination}, as node ${view.node} sees it (snapshot ${view.snapshot_generation})`;
  return [
    ...view.outcomes.map(outcome),
    element("p", { class: "note" }, head),
    element("ol", { class: "steps" }, ...view.steps.map(step)),
    ...(view.rules.length > 0 ? [rules(view.rules)] : []),
    ...view.services.map(endpoints),
  ];
}

const GOOD = new Set(["forwarded", "answered", "outside"]);

function outcome(one) {
  const failed = !GOOD.has(one.kind) || one.status >= 400 || one.endpoints.some((end) => end.refused);
  const status = [one.status, one.flag].filter(Boolean).join(" ");
  const text = `${percent(one.probability * 100)}${status ? ` · ${status}` : ""}: ${one.says}`;
  const ends = one.endpoints.map((end) => {
    const refusal = end.refused ? (end.status ? `, answered ${end.status} there` : `, refused there: ${word(end.refused)}`)
      : end.elsewhere ? ", unless its own agent refuses it" : "";
    const how = end.security === "mutual_tls" ? "mutual TLS" : "plain text";
    const who = end.expected_identity ? ` to ${end.expected_identity}` : "";
    return element("li", {}, `${percent(end.probability * 100)} ${end.address}${end.pod ? ` (${end.pod})` : ""}, ${how}${who}${refusal}`);
  });
  return element("div", { class: `outcome ${failed ? "bad" : one.kind === "forwarded" ? "good" : "doubtful"}` },
    failed ? mark("✕", "fails") : mark("✓", "works"),
    element("div", {}, element("p", {}, text), ends.length > 0 ? element("ul", {}, ...ends) : null));
}

// A reason is a word, or one with the status that was answered.
function word(reason) {
  return typeof reason === "string" ? reason : Object.entries(reason).map(([name, status]) => `${name} ${status}`).join(" ");
}

function step(one) {
  const open = one.unknown;
  return element("li", { class: open ? "open" : one.passes ? "passes" : "stops" },
    open ? mark("?", "nobody could be asked") : one.passes ? mark("✓", "passes") : mark("✕", "stops here"),
    element("span", { class: "stage" }, one.stage),
    element("span", {}, one.says));
}

function rules(all) {
  const row = (rule) => [rule.matches, rule.route, rule.why ? `passed over: ${rule.why}` : "chosen"];
  return plain("Routes, in order of precedence", ["Match", "Route", ""], all.map(row));
}

function endpoints(service) {
  const panic = service.panic ? "; so few are healthy that ejections are not honoured" : "";
  const running = service.running.map((one) => `${one.name} ${one.now}/${one.limit}`).join(", ");
  const row = (one) => [one.address, one.pod ?? "–", percent(one.weight_percent), micros(one.response_us), one.why ? `${one.state} (${one.why})` : one.state];
  const title = `${service.service}.${service.namespace}:${service.port}${running ? ` · ${running}` : ""}${panic}`;
  return plain(title, ["Endpoint", "Pod", "Chance", "Response", "Breaker"], service.endpoints.map(row));
}

function plain(title, heads, rows) {
  const line = (name, cells) => element("tr", {}, ...cells.map((cell) => element(name, name === "th" ? { scope: "col" } : {}, cell)));
  return element("div", { class: "scroll" }, element("table", {}, element("caption", {}, title),
    element("thead", {}, line("th", heads)), element("tbody", {}, ...rows.map((cells) => line("td", cells)))));
}
