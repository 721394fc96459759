//! Text to generic values, document by document. Pure.
//!
//! A line that starts with `---` is a document marker wherever it stands, so the text is cut there before anything
//! is parsed. Aliases may make a value at most a little larger than its text: a YAML bomb is refused, not expanded.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What aliases may add to a document, in bytes of text and values.
const ALIAS_ALLOWANCE: usize = 1 << 20;

/// Why a document has no value.
#[derive(Debug)]
pub(super) struct SyntaxError {
    /// What is wrong, with the line in the file.
    pub(super) reason: String,
    /// `Kind/name` as far as the text shows it; empty where it does not.
    pub(super) object: String,
}

/// Each document with its number from 1; empty ones are null or left out.
pub(super) fn yaml_documents(text: &str) -> Vec<(usize, Result<Value, SyntaxError>)> {
    let mut number = 0;
    let mut values = Vec::new();
    for (first_line, chunk) in split(text.trim_start_matches('\u{feff}')) {
        if is_blank(&chunk) {
            continue;
        }
        number += 1;
        values.push((number, yaml(&chunk).map_err(|error| yaml_error(&error, first_line, &chunk))));
    }
    values
}

/// JSON values one after the other; what follows a syntax error cannot be told apart and is not read.
pub(super) fn json_documents(text: &str) -> Vec<(usize, Result<Value, SyntaxError>)> {
    let text = text.trim_start_matches('\u{feff}');
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = |value: Result<Value, serde_json::Error>| {
        value.map_err(|error| SyntaxError { reason: format!("is not JSON: {error}"), object: String::new() })
    };
    values.enumerate().map(|(index, result)| (index + 1, value(result))).collect()
}

/// First line (from 0) and text of each document. The marker line stays: content may follow it.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut chunks = vec![(0, String::new())];
    for (line, content) in text.split_inclusive('\n').enumerate() {
        if is_marker(content) {
            chunks.push((line, String::new()));
        }
        if let Some((_, chunk)) = chunks.last_mut() {
            // A directive belongs to the marker that follows, from which it is cut off here.
            let directive = content.starts_with('%') && is_blank(chunk);
            chunk.push_str(if directive { "\n" } else { content });
        }
    }
    chunks
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_blank(chunk: &str) -> bool {
    chunk.lines().all(|line| {
        let line = if is_marker(line) { line.get(3..).unwrap_or_default() } else { line }.trim();
        line.is_empty() || line.starts_with('#') || line == "..."
    })
}

fn yaml(chunk: &str) -> Result<Value, serde_yaml_ng::Error> {
    // Text and punctuation of a document without aliases never cost more than twice its length.
    let budget = Cell::new(chunk.len().saturating_mul(2).saturating_add(ALIAS_ALLOWANCE));
    Bounded(&budget).deserialize(serde_yaml_ng::Deserializer::from_str(chunk))
}

fn yaml_error(error: &serde_yaml_ng::Error, first_line: usize, chunk: &str) -> SyntaxError {
    let line = error.location().map_or(first_line + 1, |location| first_line + location.line());
    SyntaxError { reason: format!("is not YAML (line {line} of the file): {error}"), object: guess(chunk) }
}

/// Kind and name from lines that look like them, for people only.
fn guess(chunk: &str) -> String {
    let after = |key: &str| {
        let value = chunk.lines().find_map(|line| line.strip_prefix(key))?.trim();
        let plain =
            value.len() <= 80 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        (plain && !value.is_empty()).then_some(value)
    };
    match (after("kind:"), after("  name:")) {
        (Some(kind), Some(name)) => format!("{kind}/{name}"),
        (Some(kind), None) => kind.to_owned(),
        _ => String::new(),
    }
}

/// Builds a value while it counts what it costs.
struct Bounded<'budget>(&'budget Cell<usize>);

impl Bounded<'_> {
    fn spend<E: Error>(&self, cost: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(cost).ok_or_else(|| {
            E::custom("aliases (`*name`) make it far larger than its text; write the values out")
        })?;
        self.0.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value without YAML tags")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(1).map(|()| Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend(1).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.spend(1).map(|()| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.spend(1).map(|()| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.spend(1).map(|()| Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len().saturating_add(1)).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.spend(1)?;
        let mut values = Vec::new();
        while let Some(value) = members.next_element_seed(Bounded(self.0))? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.spend(1)?;
        let mut values = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            self.spend(key.len())?;
            let value = members.next_value_seed(Bounded(self.0))?;
            if let Some(earlier) = values.insert(key.clone(), value) {
                drop(earlier);
                return Err(A::Error::custom(format!("key `{key}` is there twice; keep one")));
            }
        }
        Ok(Value::Object(values))
    }
}
