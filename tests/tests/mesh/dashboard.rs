//! `posthaste dashboard` in a real browser: what a person sees of a mesh with traffic, and of agents that fall silent.

use crate::{
    dashboard_scene::{Busy, Dashboard, MARKUP},
    http_shop::answering,
};
use posthaste_tests::{Browser, Mesh, peer::faulty::Plan};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

const ESCAPE: char = '\u{e00c}';
const ENTER: char = '\u{e007}';

/// What a person does and sees.
struct Person<'mesh> {
    browser: Browser<'mesh>,
    pictures: PathBuf,
}

impl Person<'_> {
    /// Waits until `script`, the body of a function of these arguments, says yes.
    fn sees(&self, what: &str, script: &str, arguments: &[Value]) -> Value {
        self.browser.wait_for(what, script, arguments).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// Waits until exactly these workloads are drawn.
    fn sees_workloads(&self, names: &[&str]) {
        let script =
            "const names = [...document.querySelectorAll('.node')].map((one) => one.dataset.node).sort();
            return JSON.stringify(names) === JSON.stringify(arguments[0])";
        self.sees(&format!("{names:?}"), script, &[json!(names)]);
    }

    /// Waits until a workload has this tone, and answers the colour of its bar as it is drawn.
    fn sees_tone(&self, workload: &str, tone: &str) -> Value {
        let script =
            "const node = document.querySelector(`.node.${arguments[1]}[data-node='${arguments[0]}']`);
            return node && getComputedStyle(node.querySelector('.bar')).fill";
        self.sees(&format!("{workload} as {tone}"), script, &[json!(workload), json!(tone)])
    }

    /// Waits for a row of a table with all these words.
    fn sees_row(&self, table: &str, words: &[&str]) {
        let script = "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]
            .some((row) => arguments[1].every((word) => row.innerText.includes(word)))";
        self.sees(&format!("{words:?} in {table}"), script, &[json!(table), json!(words)]);
    }

    /// Waits until the table of services lists exactly these.
    fn sees_services(&self, names: &[&str]) {
        let script = "const names = [...document.querySelectorAll('#services tbody tr')].map((row) => row.dataset.key).sort();
            return JSON.stringify(names) === JSON.stringify(arguments[0])";
        self.sees(&format!("services {names:?}"), script, &[json!(names)]);
    }

    fn shoots(&self, size: (u32, u32), dark: bool) {
        self.browser.look(size, dark).unwrap();
        self.browser.script("scrollTo(0, 0)", &[]).unwrap();
        let fits = "return document.documentElement.scrollWidth <= innerWidth && innerWidth === arguments[0]";
        self.sees("the page to fit its window", fits, &[json!(size.0)]);
        let name = format!("dashboard-{}-{}.png", size.0, if dark { "dark" } else { "light" });
        let length = self.browser.screenshot(&self.pictures.join(name)).unwrap();
        assert!(length > 20_000, "{length} bytes: an empty picture");
    }
}

const EVERYBODY: [&str; 6] =
    ["outside", "shop/cart", "shop/catalog", "shop/frontend", "shop/ledger", "shop/payments"];

#[test]
fn a_person_sees_who_calls_whom_and_what_fails() {
    let mut busy = Busy::start();
    let dashboard = Dashboard::start(&busy.mesh);
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dashboard");
    fs::create_dir_all(&pictures).unwrap();
    let person = Person { browser: Browser::start(&busy.mesh.a.site, (1280, 1000)).unwrap(), pictures };
    let browser = &person.browser;
    let begin = Instant::now();

    // Without the token there is nothing to see but how to get it.
    browser.open(&dashboard.page).unwrap();
    let banner = "return document.getElementById('banner').innerText.includes(arguments[0])";
    person.sees("what to do without the token", banner, &[json!("open the address that")]);
    let refused = browser.console().unwrap();
    assert!(refused.iter().all(|line| line.contains("401")), "{refused:?}");
    browser.open(&dashboard.url).unwrap();
    person.sees_workloads(&EVERYBODY);
    let hash = browser.script("return location.hash + document.cookie", &[]).unwrap();
    assert_eq!(hash, "", "the token stays in sight");

    sees_the_picture_and_the_tables(&person);
    sees_a_failure(&person, &busy);
    selects_and_filters(&person);
    explains(&person, &busy.mesh);

    // What came from the cluster or was typed is text, wherever it went.
    let elements = "return [document.images.length, document.getElementById('evil'), document.scripts.length, document.title]";
    assert_eq!(browser.script(elements, &[]).unwrap(), json!([1, null, 1, "Posthaste"]));
    for (size, dark) in
        [((1280, 1000), false), ((1280, 1000), true), ((800, 1000), false), ((800, 1000), true)]
    {
        person.shoots(size, dark);
    }
    let complaints = browser.console().unwrap();
    let complaints: Vec<&String> = complaints.iter().filter(|line| !line.contains("/api/explain")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");

    loses_sight_of_agents(&person, &busy.mesh);
    let asked = browser.requests().unwrap();
    let foreign: Vec<&String> = asked.iter().filter(|url| !url.starts_with(&dashboard.page)).collect();
    assert!(asked.len() > 20 && foreign.is_empty(), "{} requests, {foreign:?}", asked.len());
    let states = asked.iter().filter(|url| url.ends_with("/api/state")).count() as u64;
    let most = begin.elapsed().as_secs() / 2 + 5;
    assert!(states <= most, "{states} questions where {most} are enough");

    // Its own end is said too, and what was seen stays.
    drop(dashboard.running);
    person.sees("the end of the dashboard", banner, &[json!("still running?")]);
    person.sees_workloads(&EVERYBODY);
    drop(person);
    busy.mesh.a.stop().unwrap();
}

fn sees_the_picture_and_the_tables(person: &Person<'_>) {
    let labels = "const calls = [...document.querySelectorAll('.label')].map((one) => one.dataset.label.replace('\\n', ' > ')).sort();
        return JSON.stringify(calls) === JSON.stringify(arguments[0])";
    let calls = [
        "outside > shop/catalog",
        "shop/cart > shop/catalog",
        "shop/cart > shop/payments",
        "shop/frontend > shop/cart",
        "shop/frontend > shop/catalog",
        "shop/payments > shop/ledger",
    ];
    person.sees(&format!("{calls:?}"), labels, &[json!(calls)]);
    let said = "const label = document.querySelector(`.label[data-label='${arguments[0].replace(' > ', '\\\\a ')}']`);
        return label !== null && label.textContent.match(arguments[1]) !== null";
    for (call, words) in [
        (calls[3], "[0-9]/s.*100 %"),
        (calls[4], "[0-9]/s.*100 %"),
        (calls[0], "open.*plain"),
        (calls[5], "[0-9] open"),
    ] {
        person.sees(&format!("{words} at {call}"), said, &[json!(call), json!(words)]);
    }
    for workload in ["shop/cart", "shop/catalog", "shop/payments"] {
        person.sees_tone(workload, "good");
    }
    for name in ["cart", "catalog", "payments"] {
        person.sees_row("services", &[name, ".shop:80", "✓", "100 %", "ms", "1/1"]);
    }
    person.sees_row("services", &["ledger", ".shop:80"]);
    person.sees_row(
        "connections",
        &["open", "shop/frontend", "ns/shop/sa/frontend", "shop/cart", "mTLS", "http"],
    );
    person.sees_row("connections", &["open", "shop/catalog", "plain"]);
    person.sees_row("connections", &["closed", "shop/payments", "shop/ledger", "finished", "by both"]);
    let node = "return document.getElementById('agents').innerText.replace(/\\s+/g, ' ')";
    assert_eq!(person.browser.script(node, &[]).unwrap(), "node a node b");
}

/// The colour changes, and more than the colour.
fn sees_a_failure(person: &Person<'_>, busy: &Busy) {
    let good = person.sees_tone("shop/payments", "good");
    let failing = Plan { share: 0.5, ..answering(500) };
    busy.plan(2, &failing);
    let bad = person.sees_tone("shop/payments", "bad");
    assert_ne!(good, bad);
    let sign =
        "return document.querySelector(\".node[data-node='shop/payments'] .sign\").textContent === '✕'";
    person.sees("a sign beside the colour", sign, &[]);
    person.sees("the failing calls", "return document.querySelector('.edge.bad') !== null", &[]);
    person.sees_row("services", &["payments", "✕"]);
    let others = person.sees_tone("shop/cart", "good");
    assert_eq!(others, good);
}

fn selects_and_filters(person: &Person<'_>) {
    let all = ["cart", "catalog", "ledger", "payments"].map(|name| format!("shop/{name}:80"));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    person.sees_services(&all);
    person.browser.click(".node[data-node='shop/payments']").unwrap();
    person.sees_services(&["shop/ledger:80", "shop/payments:80"]);
    person.sees(
        "what is selected",
        "return document.getElementById('selection').innerText.includes('shop/payments')",
        &[],
    );
    person.browser.press(ESCAPE).unwrap();
    person.sees_services(&all);
    // Without a mouse, and a call instead of a workload.
    let focus = "document.querySelector(\".label[data-label^='shop/payments']\").focus()";
    person.browser.script(focus, &[]).unwrap();
    person.browser.press(ENTER).unwrap();
    person.sees_services(&["shop/ledger:80"]);
    person.browser.press(ESCAPE).unwrap();
    person.browser.write("#filter", "ledger").unwrap();
    person.sees_workloads(&["shop/ledger", "shop/payments"]);
    person.browser.script("const box = document.getElementById('filter'); box.value = ''; box.dispatchEvent(new Event('input'))", &[]).unwrap();
    person.sees_workloads(&EVERYBODY);
}

/// The form says what the command says.
fn explains(person: &Person<'_>, mesh: &Mesh) {
    let (source, destination, path) = ("shop/cart", "payments.shop:80", "/orders?id=1");
    let other = mesh.b.socket().display().to_string();
    let question =
        ["--peer-socket", &other, "explain", source, destination, "--path", path, "--header", "x-a: 1"];
    let told = mesh.a.json(&question).unwrap();
    for (field, text) in
        [("#source", source), ("#destination", destination), ("#path", path), ("#header", "x-a: 1")]
    {
        person.browser.write(field, text).unwrap();
    }
    person.browser.click("#question button").unwrap();
    let verdict = "return document.querySelector('.outcome.good')?.innerText";
    let said = person.sees("the verdict", verdict, &[]);
    let outcome = &told["outcomes"][0];
    for words in
        [&outcome["says"], &outcome["endpoints"][0]["address"], &outcome["endpoints"][0]["expected_identity"]]
    {
        assert!(said.as_str().unwrap().contains(words.as_str().unwrap()), "{said} lacks {words}");
    }
    let stages = "return [...document.querySelectorAll('.steps .stage')].map((one) => one.innerText)";
    let wanted: Vec<&Value> = told["steps"].as_array().unwrap().iter().map(|step| &step["stage"]).collect();
    assert_eq!(person.browser.script(stages, &[]).unwrap(), json!(wanted));
    let rules = "return document.getElementById('verdict').innerText.includes(arguments[0])";
    person.sees("the route that asks for another header", rules, &[json!(MARKUP)]);
    // What cannot be answered says why, as text.
    person.browser.write("#destination", MARKUP).unwrap();
    person.browser.press(ENTER).unwrap();
    let refusal = "return document.querySelector('.outcome.bad')?.innerText.includes(arguments[0])";
    person.sees("why there is no answer", refusal, &[json!(MARKUP)]);
}

/// Agents that are silent are named, what was known stays and is greyed, and all is well when they answer again.
fn loses_sight_of_agents(person: &Person<'_>, mesh: &Mesh) {
    let banner = "const text = document.getElementById('banner').innerText;
        return arguments[0].every((word) => text.includes(word))";
    let stale = "return document.body.classList.contains('stale') === arguments[0]";
    mesh.b.signal(Signal::STOP);
    person.sees("node b to be missed", banner, &[json!(["node b", "old"])]);
    mesh.a.signal(Signal::STOP);
    person.sees("both to be missed", banner, &[json!(["node a", "node b", "old"])]);
    person.sees("old data to be greyed", stale, &[json!(true)]);
    person.sees_workloads(&EVERYBODY);
    person.sees_row("services", &["payments", ".shop:80"]);
    mesh.a.signal(Signal::CONT);
    mesh.b.signal(Signal::CONT);
    person.sees("the banner to go", "return document.getElementById('banner').hidden", &[]);
    person.sees("fresh data", stale, &[json!(false)]);
    person.sees_workloads(&EVERYBODY);
}
