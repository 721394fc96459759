//! What came of a request, and whether that is what was explained.

use serde_json::{Value, json};

/// What really came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) status: u16,
    pub(super) server: String,
    pub(super) flag: String,
}

/// Whether one of the outcomes that were said to be possible is what happened.
pub(super) fn agrees(explained: &Value, happened: &Happened, server_at: impl Fn(&str) -> String) -> bool {
    let outcomes = explained["outcomes"].as_array().unwrap();
    let sum: f64 = outcomes.iter().map(|one| one["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{explained}");
    if happened.status == 0 && may_fail_unheard(explained) {
        return true;
    }
    outcomes.iter().any(|one| match one["kind"].as_str().unwrap() {
        "refused" => happened.status == 0,
        "answered" => {
            one["status"] == happened.status && one["flag"].as_str().unwrap_or_default() == happened.flag
        }
        // Nothing but the mesh leads on from a service address.
        "uncaptured" if one["endpoints"] == json!([]) => happened.status == 0,
        _ => one["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|chance| may_be_used(explained, one, chance))
            .any(|chance| {
                let server = server_at(chance["address"].as_str().unwrap());
                match (chance["refused"].is_null(), chance["status"].as_u64(), one["request"] == true) {
                    (true, ..) => (happened.status, &happened.server) == (200, &server),
                    (false, Some(status), _) => {
                        (u64::from(happened.status), &*happened.flag) == (status, "DENY")
                    }
                    // Another endpoint is tried, or none is left.
                    (false, None, true) => (happened.status, &*happened.flag) == (503, "UF"),
                    (false, None, false) => happened.status == 0,
                }
            }),
    })
}

/// Where the first bytes decide what is spoken, an endpoint is dialled meanwhile: where none can be reached, the connection may end before
/// the request is heard.
fn may_fail_unheard(explained: &Value) -> bool {
    let steps = explained["steps"].as_array().unwrap();
    let says = |stage: &str, words: &str| {
        steps.iter().any(|step| step["stage"] == stage && step["says"].as_str().unwrap().contains(words))
    };
    let refused = steps.iter().any(|step| step["passes"] == false);
    says("protocol", "the first bytes decide") && (refused || says("route", ": 0 of its"))
}

/// Whether an endpoint may get the request: by a key only one does, and others where that one refuses the connection. Without a key, as
/// for all that is carried byte by byte, the endpoint that is better at the moment gets it, which another question may change.
fn may_be_used(explained: &Value, outcome: &Value, chance: &Value) -> bool {
    let is_first = |one: &Value| one["probability"].as_f64() > Some(0.0);
    let is_its = |service: &&Value| {
        let name = |field: &str| service[field].as_str().unwrap_or_default();
        outcome["service"] == format!("{}.{}:{}", name("service"), name("namespace"), service["port"])
    };
    let service = explained["services"].as_array().unwrap().iter().find(is_its);
    assert!(service.is_some() || outcome["service"].is_null(), "{explained}");
    let balancer = service.and_then(|service| service["balancer"].as_str()).unwrap_or_default();
    let by_key = outcome["request"] == true && balancer.starts_with("consistent_hash");
    let endpoints = outcome["endpoints"].as_array().unwrap();
    let is_missed = |one: &Value| is_first(one) && !one["refused"].is_null() && one["status"].is_null();
    is_first(chance) || !by_key || endpoints.iter().any(is_missed)
}

/// To which of the classes that the test must reach an answer belongs.
pub(super) fn classes(said: &Value, came: &Happened) -> Vec<&'static str> {
    let text = said.to_string();
    let outcomes = said["outcomes"].as_array().unwrap();
    let refused = |reason: &str| {
        let endpoints = outcomes.iter().flat_map(|one| one["endpoints"].as_array().unwrap());
        endpoints.into_iter().any(|chance| chance["refused"] == reason)
    };
    let table = [
        ("a policy let it in", text.contains("let in: AuthorizationPolicy") && came.status == 200),
        ("a policy denied the request", came.status == 403),
        ("a policy denied the connection", refused("policy_denied") && matches!(came.status, 0 | 503)),
        ("plain text was refused", refused("plaintext_refused") && came.status == 0),
        ("plain text was taken", outcomes[0]["kind"] == "uncaptured" && came.status == 200),
        ("an endpoint is ejected", text.contains("\"state\":\"ejected\"") && came.status == 200),
    ];
    table.into_iter().filter(|(_, reached)| *reached).map(|(class, _)| class).collect()
}
