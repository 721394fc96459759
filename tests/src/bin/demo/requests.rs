//! The scenes about HTTP: what the agent of the calling pod does with each request.

use std::time::Duration;

use posthaste_tests::peer::faulty::{Plan, Trouble};
use posthaste_tests::peer::load::{self, Report, Spec};
use posthaste_tests::wait::{eventually_within, holds};
use posthaste_tests::{Fault, metrics::Metrics};

use crate::bars::Bar;
use crate::catalog;
use crate::scene::Scene;
use crate::screen::Screen;

const ROUTE: &str = include_str!("objects/route.yaml");
const ROUTE_FILE: &str = "catalog-route.yaml";
const POLICY: &str = include_str!("objects/policy.yaml");
const POLICY_FILE: &str = "catalog-policy.yaml";

/// Connections that the client keeps open.
const CONNECTIONS: u32 = 8;

/// All of them, in order.
///
/// # Errors
/// The demo cannot go on.
pub(crate) fn tell(screen: &mut Screen, scene: &Scene) -> Result<(), Fault> {
    split_by_weight(screen, scene)?;
    spread_one_connection(screen, scene)?;
    hide_failures(screen, scene)?;
    eject_the_slow(screen, scene)?;
    hold_a_storm(screen, scene)
}

/// Writes the objects of these scenes again, for those who want to change them.
///
/// # Errors
/// They are not followed in time.
pub(crate) fn leave_objects(scene: &Scene) -> Result<(), Fault> {
    catalog::put(&scene.mesh, ROUTE_FILE, ROUTE, "routes")
}

fn split_by_weight(screen: &mut Screen, scene: &Scene) -> Result<(), Fault> {
    screen.step("A canary: a tenth of the requests, and all of the testers'");
    catalog::put(&scene.mesh, ROUTE_FILE, ROUTE, "routes")?;
    show_object(screen, ROUTE_FILE, ROUTE);
    scene.catalog.forget()?;
    let report = ask(scene, 1000)?;
    screen.say(&said(&report, CONNECTIONS));
    let mut bars = scene.catalog.bars()?;
    for (bar, share) in bars.iter_mut().zip(["stable", "stable", "stable", "canary"]) {
        share.clone_into(&mut bar.note);
    }
    let canaries = bars.last().map_or(0, |bar| bar.good);
    screen.chart(&bars);
    // Five standard deviations of a binomial distribution around 100.
    let split = (53..=147).contains(&canaries) && report.success() == 1.0;
    screen.proof(split, &format!("90 to 10 by weight: the canary answered {canaries} of 1000 requests"));
    let header = vec![("x-tester".to_owned(), "yes".to_owned())];
    let testers =
        scene.catalog.load(&scene.client, &Spec { headers: header, ..Spec::requests(100, CONNECTIONS) })?;
    let to_canary = testers.servers.get("catalog-4").copied().unwrap_or_default();
    screen.proof(
        to_canary == 100 && testers.success() == 1.0,
        &format!("with the header x-tester: yes the canary answered {to_canary} of 100"),
    );
    catalog::remove(&scene.mesh, ROUTE_FILE, "routes")
}

fn spread_one_connection(screen: &mut Screen, scene: &Scene) -> Result<(), Fault> {
    screen.step("One HTTP/2 connection, balanced by request");
    scene.catalog.forget()?;
    screen.aside("client: one connection with prior knowledge of HTTP/2, 16 requests at once");
    let spec = Spec { http2: true, streams: 16, ..Spec::requests(600, 1) };
    let report = scene.catalog.load(&scene.client, &spec)?;
    let bars = scene.catalog.bars()?;
    screen.chart(&bars);
    screen.say(&said(&report, 1));
    // A connection that is carried whole, as other ways to balance do it, ends at one endpoint.
    let spread = bars.iter().all(|bar| bar.good >= 30);
    screen.proof(
        spread && report.status(200) == 600,
        "the requests of one HTTP/2 connection are spread over all endpoints",
    );
    Ok(())
}

fn hide_failures(screen: &mut Screen, scene: &Scene) -> Result<(), Fault> {
    screen.step("An endpoint fails half its calls");
    // Not 503, which asks to be spared: an endpoint that says so gets next to no requests any more.
    scene.catalog.plan(1, &Plan { share: 0.5, status: 502, ..Plan::always(Trouble::Status) })?;
    screen.aside("catalog-2 answers every second request with 502; nothing is configured");
    let report = ask(scene, 600)?;
    let mut bars = scene.catalog.bars()?;
    let failed: u64 = bars.iter().map(|bar| bar.bad).sum();
    bars.push(caller(&report));
    screen.chart(&bars);
    screen.say(&said(&report, CONNECTIONS));
    screen.proof(
        report.status(200) == 600 && failed >= 20,
        &format!("{failed} calls failed, and the caller saw none of it: each was tried elsewhere"),
    );
    scene.catalog.plan_all(&Plan::default())
}

fn eject_the_slow(screen: &mut Screen, scene: &Scene) -> Result<(), Fault> {
    screen.step("An endpoint is slow");
    catalog::put(&scene.mesh, POLICY_FILE, POLICY, "endpoints")?;
    show_object(screen, POLICY_FILE, POLICY);
    scene.catalog.plan(3, &Plan { delay_ms: 100, ..Plan::always(Trouble::SlowHead) })?;
    screen.aside("catalog-4 takes 100 ms for what the others do in one");
    let spec = Spec { seconds: 2.5, rate: 400.0, ..Spec::requests(0, 4 * CONNECTIONS) };
    // Many at once: of one after the other the slow endpoint would get two, and be left alone without a word.
    let crowd = Spec { rate: 0.0, ..spec.clone() };
    // Balancing keeps away from it by itself, so that enough calls to judge it by may take some rounds.
    let mut rounds = 0;
    let (before, ejected) = loop {
        rounds += 1;
        let running = load::start(&scene.client, scene.catalog.address()?, &crowd)?;
        let ejected = wait_for_ejection(scene, "catalog-4");
        let before = load::finish(running, &crowd)?;
        if ejected.is_ok() || rounds == 4 {
            break (before, ejected);
        }
    };
    let answer = scene.mesh.a.cli(&["endpoints", "catalog", "--columns", crate::TABLE_WIDTH])?;
    // The addresses of the other family come after an empty line.
    let excerpt = answer.split("\n\n").next().unwrap_or_default();
    screen.aside("node a$ posthaste endpoints catalog");
    screen.say(excerpt);
    scene.catalog.forget()?;
    let after = scene.catalog.load(&scene.client, &Spec { seconds: 1.5, ..spec })?;
    for (when, report) in [("until then", &before), ("after", &after)] {
        screen.say(&format!("{when:<11} p50 {:>6.1} ms   p99 {:>6.1} ms", report.p50_ms, report.p99_ms));
    }
    let bars = scene.catalog.bars()?;
    screen.chart(&bars);
    let why = ejected.unwrap_or_else(|fault| fault.to_string());
    screen.proof(why == "latency", &format!("the slow endpoint was ejected ({why})"));
    screen.proof(
        bars.last().is_some_and(|bar| bar.good == 0) && after.success() == 1.0,
        "from then on every request went to the quick ones",
    );
    scene.catalog.plan_all(&Plan::default())
}

/// The reason, once it is ejected.
fn wait_for_ejection(scene: &Scene, pod: &str) -> Result<String, Fault> {
    eventually_within(Duration::from_secs(4), &format!("{pod} to be ejected"), || {
        let (state, why) = catalog::health(&scene.mesh, pod).map_err(|fault| fault.to_string())?;
        holds(state == "ejected", state).map(|()| why)
    })
}

fn hold_a_storm(screen: &mut Screen, scene: &Scene) -> Result<(), Fault> {
    screen.step("All endpoints fail: no storm of retries");
    scene.catalog.plan_all(&Plan::always(Trouble::Status))?;
    screen.aside(
        "each request may be tried three times; the budget of the policy above allows a fifth more in all",
    );
    let before = refusals(&scene.mesh.a.metrics()?);
    let report = ask(scene, 2000)?;
    let received: u64 = scene.catalog.seen()?.iter().map(|seen| seen.requests).sum();
    let refused = refusals(&scene.mesh.a.metrics()?) - before;
    let bar = |label: &str, count: u64, note: &str| Bar {
        label: label.to_owned(),
        good: count,
        bad: 0,
        note: note.to_owned(),
    };
    let factor = received as f64 / 2000.0;
    screen.chart(&[
        bar("the caller asked", 2000, ""),
        bar("endpoints received", received, &format!("{factor:.2} times")),
        bar("without a budget", 6000, "3 times, not measured"),
    ]);
    screen.say(&format!("posthaste_retry_budget_refused_total   +{refused}"));
    // A fifth more, and ten a second.
    let most = 2000.0 * 1.2 + 10.0 * (report.seconds + 1.0);
    screen.proof(
        received as f64 <= most && report.status(503) == 2000 && refused > 0.0,
        &format!("an outage is not made worse: {factor:.2} times the load, {refused} retries refused"),
    );
    scene.catalog.plan_all(&Plan::default())?;
    let healed = ask(scene, 200)?;
    screen.proof(healed.status(200) == 200, "the endpoints are well again, and so is every call at once");
    Ok(())
}

fn refusals(metrics: &Metrics) -> f64 {
    metrics.sum("posthaste_retry_budget_refused_total", &[])
}

fn ask(scene: &Scene, requests: u64) -> Result<Report, Fault> {
    scene.catalog.load(&scene.client, &Spec::requests(requests, CONNECTIONS))
}

/// What the caller saw, as a bar beside those of the endpoints.
fn caller(report: &Report) -> Bar {
    let good = report.status(200);
    let bad = report.requests - good;
    Bar { label: "the caller".to_owned(), good, bad, note: format!("{bad} of them failed") }
}

/// Such as `client: 600 GET over 8 connection(s): 600 x 200, p50 1.2 ms, p99 3.1 ms`.
fn said(report: &Report, connections: u32) -> String {
    let statuses = report.statuses.iter().map(|(status, count)| format!("{count} x {status}"));
    let errors = report.errors.iter().map(|(error, count)| format!("{count} x {error}"));
    let answers: Vec<String> = statuses.chain(errors).collect();
    format!(
        "client: {} GET over {connections} connection(s): {}, p50 {:.1} ms, p99 {:.1} ms",
        report.requests,
        answers.join(", "),
        report.p50_ms,
        report.p99_ms
    )
}

/// The object as it lies in the folder, without the line that says its version.
fn show_object(screen: &Screen, file: &str, text: &str) {
    screen.aside(&format!("cat > manifests/{file}"));
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("apiVersion")).collect();
    screen.say(&lines.join("\n"));
}
