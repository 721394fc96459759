// The page: asks for the state every two seconds, one question at a time, and shows it; what is selected filters the tables.

import { change, element, find, keep, say } from "/dom.js";
import { connectForm, suggest } from "/explain.js";
import { age, micros, percent, rate, SHORT, SIGNS, tone } from "/format.js";
import { noteServices, showConnections, showServices } from "/tables.js";
import { draw, edgeKey } from "/topology.js";

const PACE = 2000;
// Good data that is older is said to be old.
const STALE = 10000;
// A question that takes longer has failed; the next one follows.
const PATIENCE = 15000;

const token = taken();
let state = null;
let received = 0;
let failure = "";
let selected = null;

// The token comes behind the `#` once, and then stays with this tab.
function taken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") ?? "";
}

async function ask(path) {
  try {
    const answer = await fetch(path, {
      headers: { authorization: `Bearer ${token}` }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE),
    });
    return { ok: answer.ok, status: answer.status, text: await answer.text() };
  } catch {
    return { ok: false, status: 0, text: "" };
  }
}

async function follow() {
  const answer = await ask("/api/state");
  // A wrong token stays wrong.
  if (answer.status !== 401) setTimeout(follow, PACE);
  if (answer.ok) {
    state = JSON.parse(answer.text);
    received = performance.now();
    failure = "";
    if (state.window_seconds !== null) noteServices(state.services);
  } else {
    failure = answer.status === 0 ? "The dashboard does not answer: is `posthaste dashboard` still running?" : answer.text.trim();
  }
  show();
}

function show() {
  tell();
  if (state === null) return;
  const namespaces = [...new Set(state.edges.flatMap((edge) => [edge.from, edge.to]).filter((name) => name.includes("/")).map((name) => name.split("/")[0])
    .concat(state.services.map((one) => one.namespace)))].sort();
  keep(find("namespace"), ["", ...namespaces], (name) => name, (name) => element("option", { value: name }, name || "All namespaces"), () => {});
  const edges = state.edges.filter((edge) => fits(edge.from) || fits(edge.to));
  if (selected !== null && !edges.some((edge) => [edge.from, edge.to, edgeKey(edge)].includes(selected))) selected = null;
  draw(edges, selected, select);
  tiles();
  showTables(edges);
  suggest(state.pods, state.services);
}

function showTables(edges) {
  const near = selected === null ? null : edges.filter((edge) => [edge.from, edge.to, edgeKey(edge)].includes(selected));
  const called = near && new Set(near.flatMap((edge) => edge.services));
  const services = state.services.filter((one) =>
    (fits(`${one.namespace}/${one.name}`)) && (!called || called.has(`${one.namespace}/${one.name}`)));
  const meets = (row) => near.some((edge) =>
    edge.from === row.from && (edge.to === row.to || (row.to === row.service && edge.services.includes(row.service))));
  const ended = find("ended").checked;
  const connections = state.connections.filter((row) =>
    (ended || row.state !== "closed") && (fits(row.from) || fits(row.to)) && (!near || meets(row)));
  showServices(services, state.more_services > 0 && !near);
  showConnections(connections, state.more_connections && !near);
  const shown = selected?.includes("\n") ? selected.replace("\n", " → ") : selected;
  find("selection").hidden = selected === null;
  if (selected !== null) say(find("selection"), `${shown} ✕`);
}

// Whether a workload or service is meant by the filters.
function fits(name) {
  const namespace = find("namespace").value;
  const wanted = find("filter").value.trim().toLowerCase();
  return (namespace === "" || name.startsWith(`${namespace}/`)) && name.toLowerCase().includes(wanted);
}

function select(key) {
  selected = selected === key ? null : key;
  show();
}

function tiles() {
  const { all, encryption } = state;
  const measured = state.window_seconds !== null;
  const figure = (name, text, word) => {
    say(find(`tile-${name}`), text);
    change(find(`tile-${name}`), { class: `figure ${word ?? ""}` });
  };
  figure("rate", measured ? rate(all.requests_per_second) : "–");
  say(find("tile-rate-note"), `per second · ${rate(all.retries_per_second)} retries`);
  const word = tone(all.success_percent);
  figure("success", all.success_percent === null ? "–" : percent(all.success_percent), word);
  say(find("tile-success-note"), all.success_percent === null ? "no requests to judge by" : `${SIGNS[word]} ${SHORT[word]}`);
  figure("latency", micros(all.p99_us));
  say(find("tile-latency-note"), `99th percentile · median ${micros(all.p50_us)}`);
  figure("connections", String(state.live_connections));
  figure("encrypted", encryption.everything ? "yes" : "not all", encryption.everything ? "good" : "doubtful");
  say(find("tile-encrypted-note"), encryption.everything ? "all of it under mutual TLS" : encryption.because[0] ?? "");
  change(find("tile-encrypted-note"), { title: encryption.because.join("\n") });
  say(find("window"), measured ? `${Math.round(state.window_seconds)} s` : "seconds");
}

// Who answers, who does not, and how old what is shown is.
function tell() {
  const since = received === 0 ? 0 : performance.now() - received;
  const agents = state?.agents ?? [];
  const old = (agent) => (agent.age_ms === null ? Infinity : agent.age_ms + since);
  const silent = agents.filter((agent) => agent.error || old(agent) > STALE);
  const freshest = Math.min(...agents.map(old));
  const aged = (agent) => (agent.age_ms === null ? "it never answered" : `its last answer is ${age(old(agent))} old`);
  const named = (agent) => (agent.node ? `node ${agent.node}` : agent.place);
  const complaint = silent.map((agent) => `No answer from the agent of ${named(agent)}: ${agent.error ?? "it is slow"}; ${aged(agent)}.`);
  const shownAge = state === null || freshest === Infinity ? "" : ` What is shown is ${age(freshest)} old.`;
  const trouble = failure ? failure + shownAge : complaint.join(" ");
  say(find("banner"), trouble);
  find("banner").hidden = trouble === "";
  const stale = state !== null && (failure !== "" || silent.length === agents.length) && freshest > 0;
  document.body.classList.toggle("stale", stale);
  say(find("age"), state === null || freshest === Infinity ? "" : `Updated ${age(freshest)} ago.`);
  keep(find("agents"), agents, (agent) => agent.place, () => element("li", {}, element("span", { class: "dot", "aria-hidden": "true" }), element("span")), (made, agent) => {
    const quiet = silent.includes(agent) || failure !== "";
    const word = quiet ? "bad" : agent.ready && agent.problems === 0 ? "good" : "doubtful";
    const problems = agent.problems > 0 ? ` · ${agent.problems} problem${agent.problems === 1 ? "" : "s"}` : "";
    const says = quiet ? " · no answer" : agent.ready ? problems : ` · not ready${problems}`;
    change(made, { class: word, title: `${agent.place}${agent.version ? `, version ${agent.version}` : ""}${agent.not_ready_reason ? `: ${agent.not_ready_reason}` : ""}` });
    say(made.lastChild, `${agent.node ? `node ${agent.node}` : agent.place}${says}`);
  });
}

function legend() {
  const entry = ([word, text]) => element("li", { class: word }, element("span", { class: "swatch", "aria-hidden": "true" }, SIGNS[word]), text);
  find("legend").append(...[["good", "≥ 99 %"], ["doubtful", "95–99 %"], ["bad", "< 95 %"], ["idle", "no traffic"]].map(entry));
}

// Another address with a token, typed into the same tab, changes no more than what is behind the `#`.
addEventListener("hashchange", () => location.reload());
legend();
connectForm(ask);
find("selection").addEventListener("click", () => select(selected));
for (const id of ["filter", "namespace", "ended"]) find(id).addEventListener("input", show);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && selected !== null) select(selected);
});
addEventListener("resize", show);
setInterval(tell, 1000);
follow();
