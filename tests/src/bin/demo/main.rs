//! `cargo xtask demo`: two nodes on one machine, unmodified programs in pods, and a mesh between them. Tells what it
//! does step by step and what each step proved; ends by itself. With `--keep` it stays until Ctrl-C. Whatever way
//! it ends, nothing is left behind.

mod bars;
mod calls;
mod catalog;
mod janitor;
mod keep;
mod picture;
mod requests;
mod scene;
mod screen;
mod wire;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use posthaste_tests::Fault;

use janitor::Janitor;
use scene::Scene;
use screen::Screen;

/// Columns of a terminal of 100, less our margin.
const TABLE_WIDTH: &str = "97";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [janitor::ROLE, owner] => {
            janitor::work(owner);
            ExitCode::SUCCESS
        }
        [] => play(false),
        ["--keep"] => play(true),
        _ => {
            eprintln!(
                "usage: cargo xtask demo [--keep]\n  --keep  leave it running to try things out, until Ctrl-C"
            );
            ExitCode::FAILURE
        }
    }
}

fn play(keep: bool) -> ExitCode {
    let begin = Instant::now();
    let mut screen = Screen::new();
    let result = Janitor::start().and_then(|janitor| {
        let result = tell(&mut screen, keep);
        janitor.dismiss();
        result
    });
    if let Err(fault) = result {
        eprintln!("\nthe demo could not go on: {fault}");
        return ExitCode::FAILURE;
    }
    let held = screen.conclude();
    println!("\n   {} s; everything is cleaned up.", begin.elapsed().as_secs());
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The whole story, in order.
fn tell(screen: &mut Screen, keep: bool) -> Result<(), Fault> {
    let mut scene = set_up(screen)?;
    call_by_service_address(screen, &mut scene)?;
    compare_with_plaintext(screen, &mut scene)?;
    refuse_a_stranger(screen, &mut scene)?;
    lose_an_endpoint(screen, &mut scene);
    requests::tell(screen, &scene)?;
    show_the_record(screen, &mut scene)?;
    if keep {
        keep::stay(screen, &mut scene)?;
    }
    Ok(())
}

fn set_up(screen: &mut Screen) -> Result<Scene, Fault> {
    screen.step("Two nodes, a certificate authority, eight pods");
    let scene = Scene::start()?;
    let [left, right] = scene.pictures();
    screen.say(&picture::draw(&left, &right));
    let services: Vec<String> = scene.service.cluster_ips.iter().map(ToString::to_string).collect();
    screen
        .say(&format!("service orders  {}  port 80  ->  orders-1, orders-2 port 8080", services.join("  ")));
    let catalog: Vec<&str> = scene.catalog.pods().map(|pod| pod.name.as_str()).collect();
    screen.say(&format!(
        "service catalog {}  port 80  ->  {}",
        scene.catalog.address()?.ip(),
        catalog.join(", ")
    ));
    screen.aside("Each node and pod is a network namespace; the programs know nothing of a mesh.");
    screen.aside("curl in client -> orders on node b -> prices on node a (plain Python): every call");
    screen.aside("crosses the wire twice. Those of catalog are a server that fails or dawdles when told to.");
    Ok(scene)
}

fn call_by_service_address(screen: &mut Screen, scene: &mut Scene) -> Result<(), Fault> {
    screen.step("Calls by service address, while the wire is watched");
    let sniffer = wire::watch(scene)?;
    let addresses = scene.addresses();
    screen.aside(&format!("client$ curl {}/order/0", addresses.join("/order/0   curl ")));
    let outcome = calls::order(&scene.client, &addresses, 20);
    screen.say(&format!("{} of {} calls answered, by {}", outcome.answered, outcome.asked, outcome.shares()));
    outcome.complaint.iter().for_each(|complaint| screen.say(complaint));
    let seen = wire::settle(&sniffer);
    screen.proof(
        outcome.is_complete(),
        "unmodified programs on two nodes talk by service address, IPv4 and IPv6",
    );
    screen.proof(outcome.by.len() == 2, "the calls are balanced over both endpoints");
    screen.say(&format!(
        "on the wire: {} packets with {} bytes;\n{} of them at the tunnel's port, {} begin a TLS record",
        seen.packets,
        seen.bytes,
        wire::tunnelled(&seen),
        seen.tls_records
    ));
    let hidden = seen.hits.iter().all(|hits| *hits == 0) && wire::tunnelled(&seen) > 0 && seen.lost == 0;
    screen.proof(hidden, &format!("only ciphertext on the wire: \"{}\" was seen 0 times", scene::SECRET));
    Ok(())
}

fn compare_with_plaintext(screen: &mut Screen, scene: &mut Scene) -> Result<(), Fault> {
    screen.step("The same call without the mesh, watched by the same search");
    let (client, server) = (scene.mesh.outsider("stranger")?, scene.mesh.outsider("bare")?);
    let hits = wire::plaintext_hits(scene, &client, &server)?;
    screen.say(&format!("the payload was seen {hits} times"));
    screen.proof(hits > 0, "the search is not blind: it finds the payload of a call outside the mesh");
    Ok(())
}

fn refuse_a_stranger(screen: &mut Screen, scene: &mut Scene) -> Result<(), Fault> {
    screen.step("A stranger without a certificate calls a pod directly");
    let stranger = scene.mesh.outsider("burglar")?;
    let [orders, _] = &scene.orders;
    let url = scene::direct_url(&orders.site);
    let refused = match calls::get(&stranger, &url) {
        Ok(_) => false,
        Err(fault) => {
            let said = fault.to_string();
            screen.aside(&format!("stranger$ curl {url}"));
            let said = said.lines().find(|line| line.starts_with("curl")).unwrap_or("refused");
            screen.say(said.split(" after ").next().unwrap_or(said));
            true
        }
    };
    screen.proof(refused, "plaintext to a pod whose namespace is strict is refused");
    Ok(())
}

fn lose_an_endpoint(screen: &mut Screen, scene: &mut Scene) {
    screen.step("One endpoint is killed");
    drop(scene.doomed.take());
    screen.aside("orders-1$ kill -9 (its program; the service still lists it)");
    let outcome = calls::order(&scene.client, &scene.addresses(), 20);
    screen.say(&format!("{} of {} calls answered, by {}", outcome.answered, outcome.asked, outcome.shares()));
    outcome.complaint.iter().for_each(|complaint| screen.say(complaint));
    screen.proof(outcome.is_complete(), "one endpoint died and no call was lost");
}

fn show_the_record(screen: &mut Screen, scene: &mut Scene) -> Result<(), Fault> {
    screen.step("What the agents recorded");
    for pause in [0.2, 0.3] {
        scene.start_steady_client(20, pause)?;
    }
    std::thread::sleep(Duration::from_millis(1500));
    let node = &scene.mesh.a;
    screen.aside("node a$ posthaste connections --service orders");
    screen.say(node.cli(&["connections", "--service", "orders", "--columns", TABLE_WIDTH])?.trim_end());
    screen.aside("node a$ posthaste top --once");
    screen.say(node.cli(&["top", "--once", "--columns", TABLE_WIDTH])?.trim_end());
    let metrics = node.metrics()?;
    let opened = metrics.sum("istio_tcp_connections_opened_total", &[("reporter", "source")]);
    let labels = [("reporter", "source"), ("connection_security_policy", "mutual_tls")];
    let encrypted = metrics.sum("istio_tcp_connections_opened_total", &labels);
    screen.aside("node a$ curl :15020/metrics");
    for (name, labels) in [
        ("istio_tcp_connections_opened_total", &labels[..]),
        ("istio_requests_total", &[("reporter", "source"), ("response_code", "200")]),
        ("istio_requests_total", &[("reporter", "source"), ("response_code", "503")]),
        ("posthaste_request_retries_total", &[]),
        ("posthaste_endpoint_ejections_total", &[("why", "latency")]),
    ] {
        let shown: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let series = format!("{name}{{{}}}", shown.join(","));
        screen.say(&format!("{series:<88} {}", metrics.sum(name, labels)));
    }
    let claim =
        format!("{encrypted} of {opened} connections that began on node a are recorded under mutual TLS");
    screen.proof(encrypted >= 20.0 && encrypted == opened, &claim);
    Ok(())
}
