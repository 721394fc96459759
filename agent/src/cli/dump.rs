//! `posthaste dump`: the objects that the agent goes by, as YAML documents, or as JSON, one object a line.

use super::{CliError, Options, Output, client};
use serde_json::Value;
use std::io::{self, Write};

/// Asks and prints object by object, since a large cluster has a hundred thousand endpoints.
pub(super) fn show(options: &Options, out: &mut dyn Write) -> Result<(), CliError> {
    let written = client::follow(&options.place, "/objects", &mut |line| {
        if !line.is_empty() {
            write_object(options.output, line, out)?;
        }
        Ok(true)
    })?;
    written?;
    Ok(out.flush()?)
}

fn write_object(output: Output, line: &str, out: &mut dyn Write) -> io::Result<()> {
    if output == Output::Json {
        return writeln!(out, "{line}");
    }
    let object: Value = serde_json::from_str(line)?;
    let text = serde_yaml_ng::to_string(&object).map_err(io::Error::other)?;
    write!(out, "---\n{text}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_object_is_a_document() {
        let mut out = Vec::new();
        write_object(Output::Table, r#"{"kind":"Namespace","metadata":{"name":"a"}}"#, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "---\nkind: Namespace\nmetadata:\n  name: a\n");
    }
}
