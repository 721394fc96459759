//! What only the agent of the called pod's node knows: it is asked, and its answer takes the place of the step that was open.

use std::collections::BTreeMap;

use crate::{
    cli::{
        Options,
        client::{self, ClientError},
        cluster::place::Place,
    },
    observe::views::{ArrivalView, AskView, ExplainView},
};

/// What came of a question.
type Answered = Result<ArrivalView, String>;

/// Asks what is open, each question once, and completes the view.
pub(super) fn complete(options: &Options, view: &mut ExplainView) {
    let mut answers = BTreeMap::new();
    let of_steps = view.steps.iter().filter_map(|step| step.elsewhere.as_ref());
    for ask in of_steps {
        answers.entry(ask.target.clone()).or_insert_with(|| answer(options, ask));
    }
    enter(view, &answers);
}

/// In a cluster the agent of the node; else whoever has the pod.
fn answer(options: &Options, ask: &AskView) -> Answered {
    if options.place.is_cluster() {
        let pod = ask.node.is_none().then(|| ask.pod.clone());
        let place = Place { node: ask.node.clone(), pod, ..options.place.clone() };
        return client::ask(&place, &ask.target).map_err(|error| error.to_string());
    }
    let node =
        ask.node.as_ref().map_or_else(|| format!("of pod {}", ask.pod), |node| format!("of node {node}"));
    let mut last = format!("name the socket of the agent {node} with --peer-socket");
    for place in options.places() {
        match client::ask(&place, &ask.target) {
            Ok(found) => return Ok(found),
            // It is the agent of another node.
            Err(ClientError::Status { status: 404, .. }) => {}
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Puts the answers where they belong; what could not be asked stays open, with the reason. Pure.
fn enter(view: &mut ExplainView, answers: &BTreeMap<String, Answered>) {
    let mut steps = Vec::with_capacity(view.steps.len());
    for mut step in std::mem::take(&mut view.steps) {
        match step.elsewhere.take().and_then(|ask| answers.get(&ask.target)) {
            Some(Ok(found)) => steps.extend(found.steps.iter().cloned()),
            Some(Err(why)) => {
                step.says.push_str(&format!(", and could not be asked: {why}"));
                steps.push(step);
            }
            None => steps.push(step),
        }
    }
    view.steps = steps;
    for outcome in &mut view.outcomes {
        for chance in &mut outcome.endpoints {
            let answered = chance.elsewhere.as_ref().and_then(|ask| answers.get(&ask.target));
            if let Some(Ok(found)) = answered {
                (chance.refused, chance.status) = (found.refused, found.status);
                chance.elsewhere = None;
            }
        }
        outcome.settle();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::observe::{
        CloseReason,
        views::{ChanceView, OutcomeKind, OutcomeView, StepView},
    };

    fn view(request: bool, targets: &[&str]) -> ExplainView {
        let ask = |target: &&str| {
            Some(AskView { pod: "shop/one".into(), node: Some("b".into()), target: (*target).into() })
        };
        let step = |target: &&str| StepView {
            stage: "arrival".into(),
            passes: true,
            says: "the agent of node b decides".into(),
            unknown: true,
            elsewhere: ask(target),
        };
        let chance = |target: &&str| ChanceView { elsewhere: ask(target), ..ChanceView::default() };
        ExplainView {
            steps: targets.iter().map(step).collect(),
            outcomes: vec![OutcomeView {
                kind: OutcomeKind::Forwarded,
                request,
                endpoints: targets.iter().map(chance).collect(),
                ..OutcomeView::default()
            }],
            ..ExplainView::default()
        }
    }

    fn said(passes: bool, refused: Option<CloseReason>, status: Option<u16>) -> Answered {
        let step = StepView { stage: "policy".into(), passes, says: "so".into(), ..StepView::default() };
        Ok(ArrivalView { node: "b".into(), steps: vec![step], refused, status })
    }

    #[test]
    fn answers_take_the_place_of_what_was_open() {
        let denied = Some(CloseReason::PolicyDenied);
        // Whether of a request; refused, status; kind and status of the outcome.
        let table = [
            (true, None, None, OutcomeKind::Forwarded, None),
            (true, denied, Some(403), OutcomeKind::Answered, Some(403)),
            (true, denied, None, OutcomeKind::Answered, Some(503)),
            (false, denied, None, OutcomeKind::Refused, None),
        ];
        for (request, refused, status, kind, expected) in table {
            let mut view = view(request, &["/x"]);
            enter(&mut view, &[("/x".to_owned(), said(refused.is_none(), refused, status))].into());
            assert_eq!((view.steps.len(), &*view.steps[0].stage), (1, "policy"));
            assert!(!view.steps[0].unknown);
            let outcome = &view.outcomes[0];
            assert_eq!((outcome.kind, outcome.status), (kind, expected), "{outcome:?}");
            assert_eq!((outcome.endpoints[0].refused, &outcome.endpoints[0].elsewhere), (refused, &None));
        }
    }

    #[test]
    fn what_cannot_be_asked_stays_open_with_the_reason() {
        let mut view = view(true, &["/x", "/y"]);
        let answers = [
            ("/x".to_owned(), Err("no agent on node b".to_owned())),
            ("/y".to_owned(), said(false, Some(CloseReason::PolicyDenied), Some(403))),
        ];
        enter(&mut view, &answers.into());
        assert!(view.steps[0].unknown && !view.steps[1].unknown);
        assert_eq!(
            view.steps[0].says,
            "the agent of node b decides, and could not be asked: no agent on node b"
        );
        assert_eq!(view.outcomes[0].kind, OutcomeKind::Forwarded, "one may take it");
        assert!(view.outcomes[0].endpoints[0].elsewhere.is_some());
    }
}
