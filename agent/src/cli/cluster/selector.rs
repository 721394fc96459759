//! Label selectors as Kubernetes matches them (`metav1.LabelSelector`). Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// Whether all of it holds; an empty selector fits everything, one with an unknown operator nothing.
pub(super) fn fits(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(name, value)| labels.get(name) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|one| holds(one, labels))
}

fn holds(one: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&one.key);
    let named = || value.is_some_and(|value| one.values.iter().flatten().any(|other| other == value));
    match &*one.operator {
        "In" => named(),
        "NotIn" => !named(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use serde_json::{Value, json};

    fn check(selector: Value) -> bool {
        let labels =
            Labels::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "front".to_owned())]);
        fits(&serde_json::from_value(selector).unwrap(), &labels)
    }

    #[test]
    fn as_the_documentation_says() {
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (selector, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "web", "tier": "back"}}), false),
            (expression("app", "In", &["web", "api"]), true),
            (expression("app", "In", &["api"]), false),
            (expression("app", "NotIn", &["api"]), true),
            (expression("absent", "NotIn", &["api"]), true),
            (expression("tier", "Exists", &[]), true),
            (expression("tier", "DoesNotExist", &[]), false),
            (expression("tier", "Like", &["front"]), false),
        ] {
            assert_eq!(check(selector.clone()), expected, "{selector}");
        }
    }
}
