//! What can be read of an AuthorizationPolicy of which a part cannot: that part is cut out and noted, so that the rest can be in force
//! and the part counts as what keeps out most (`snapshot::build::authorization` says how). Pure.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use serde_path_to_error::Segment;

use crate::{
    control::spelling,
    snapshot::input::{
        Metadata,
        authorization::{AuthorizationPolicy, AuthorizationPolicySpec, Fault, Part, Unread},
    },
};

/// Parts that are noted one by one; what has more faults is not read at all.
const MOST: usize = 64;
/// The fields of `spec`.
const FIELDS: [&str; 5] = ["targetRefs", "selector", "action", "dryRun", "rules"];

/// Reads as much as can be. None where it is not known whose policy it is: without a name and a namespace that are texts.
pub fn in_part(value: &Value, origin: &Arc<str>) -> Option<AuthorizationPolicy> {
    let metadata = metadata(value, origin)?;
    let written = value.get("spec").cloned().unwrap_or_else(|| json!({}));
    let (mut spec, mut faults) = (written.clone(), Vec::new());
    while faults.len() < MOST {
        let error = match serde_path_to_error::deserialize::<_, AuthorizationPolicySpec>(&spec) {
            Ok(spec) => {
                let unread = (!faults.is_empty()).then(|| Unread { written, faults }.into());
                return Some(AuthorizationPolicy { metadata, spec, unread });
            }
            Err(error) => error,
        };
        let (path, reason) = (error.path(), error.inner().to_string());
        let field = if path.iter().len() == 0 { "spec".to_owned() } else { format!("spec.{path}") };
        let steps: Vec<Step> = path.iter().map(Step::of).collect();
        let parts = cut(&mut spec, &steps);
        faults.push(Fault { field, reason, parts });
    }
    let fault = Fault { field: "spec".into(), reason: format!("has more than {MOST} faults"), parts: all() };
    let spec = AuthorizationPolicySpec { rules: vec![Default::default()], ..Default::default() };
    Some(AuthorizationPolicy { metadata, spec, unread: Some(Unread { written, faults: vec![fault] }.into()) })
}

/// Of metadata that does not fit only what tells one policy from another.
fn metadata(value: &Value, origin: &Arc<str>) -> Option<Metadata> {
    let text = |field: &str| value.get("metadata")?.get(field)?.as_str().filter(|text| !text.is_empty());
    let (name, namespace) = (text("name")?, text("namespace").unwrap_or("default"));
    let uid = text("uid").map_or_else(|| format!("{namespace}/{name}"), str::to_owned);
    Some(Metadata {
        origin: Arc::clone(origin),
        namespace: namespace.into(),
        name: name.into(),
        uid: uid.into(),
        created: None,
        labels: Default::default(),
        annotations: Default::default(),
    })
}

/// A step of the way to a field.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Place(usize),
}

impl Step {
    fn of(segment: &Segment) -> Self {
        match segment {
            Segment::Seq { index } => Self::Place(*index),
            Segment::Map { key } => Self::Key(key.clone()),
            Segment::Enum { variant } => Self::Key(variant.clone()),
            Segment::Unknown => Self::Key(String::new()),
        }
    }
}

fn all() -> Vec<Part> {
    vec![Part::Target, Part::Action, Part::Trial, Part::Rule(0)]
}

/// Cuts out the smallest part that has the field, so that the rest can be read; always makes the value smaller, or plainer.
fn cut(spec: &mut Value, steps: &[Step]) -> Vec<Part> {
    let parts = spec.as_object_mut().and_then(|fields| match steps {
        [Step::Key(first), rest @ ..] if first == "rules" => rules(fields, rest),
        [Step::Key(first), ..] => field(fields, first),
        _ => None,
    });
    parts.unwrap_or_else(|| {
        *spec = json!({"rules": [{}]});
        all()
    })
}

fn field(fields: &mut Map<String, Value>, name: &str) -> Option<Vec<Part>> {
    fields.remove(name)?;
    let is_there = |known: &str| fields.contains_key(known);
    let has_target = is_there("selector") || is_there("targetRefs");
    let is_target = |known: &str| matches!(known, "selector" | "targetRefs");
    let absent = |known: &&str| if is_target(known) { !has_target } else { !is_there(known) };
    let meant = match FIELDS.contains(&name) {
        true => vec![name],
        // A slip of the pen, or it may stand for whatever is not there.
        false => match spelling::meant(name, FIELDS.into_iter()) {
            Some(meant) => vec![meant],
            None => FIELDS.into_iter().filter(absent).collect::<Vec<_>>(),
        },
    };
    let mut parts = Vec::new();
    for name in meant {
        match name {
            "action" => parts.push(Part::Action),
            "dryRun" => parts.push(Part::Trial),
            "rules" => {
                fields.insert("rules".into(), json!([{}]));
                parts.push(Part::Rule(0));
            }
            _ => parts.push(Part::Target),
        }
    }
    parts.dedup();
    Some(parts)
}

fn rules(fields: &mut Map<String, Value>, steps: &[Step]) -> Option<Vec<Part>> {
    let [Step::Place(place), steps @ ..] = steps else {
        fields.insert("rules".into(), json!([{}]));
        return Some(vec![Part::Rule(0)]);
    };
    let rule = fields.get_mut("rules")?.get_mut(*place)?;
    let of_rule = vec![Part::Rule(*place)];
    let [Step::Key(list), steps @ ..] = steps else {
        *rule = json!({});
        return Some(of_rule);
    };
    let plain = match list.as_str() {
        "from" => json!({"source": {}}),
        "to" => json!({"operation": {}}),
        "when" => json!({"key": ""}),
        _ => Value::Null,
    };
    if let [Step::Place(at), ..] = steps
        && let Some(member) = rule.get_mut(list).and_then(|list| list.get_mut(*at))
        && !plain.is_null()
    {
        *member = plain;
        return Some(vec![Part::Member(format!("spec.rules[{place}].{list}[{at}]"))]);
    }
    rule.as_object_mut()?.remove(list.as_str())?;
    Some(of_rule)
}

#[cfg(test)]
mod tests;
