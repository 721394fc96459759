//! `posthaste check`: can this kernel and machine run the agent. The requirements are probed by whoever knows the kernel.

use super::{
    CliError, Options, present,
    table::{Column, Fit, draw},
};
use crate::observe::views::RequirementView;
use std::{io::Write, process::ExitCode};

/// Name of the requirement that all others are probed with.
const CAPABILITIES: &str = "capabilities";

/// Shows `requirements`; fails where one that is needed is missing.
pub(super) fn show(
    options: &Options,
    requirements: &[RequirementView],
    out: &mut dyn Write,
) -> Result<ExitCode, CliError> {
    present(options, &requirements, out, |fit| text(requirements, fit))?;
    let missing = requirements.iter().any(|one| one.required && !one.found);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(requirements: &[RequirementView], fit: Fit) -> String {
    let columns = [
        Column { title: "NEEDED", rank: 0, least: 12 },
        Column { title: "FOUND", rank: 0, least: 7 },
        Column { title: "DETAIL", rank: 1, least: 16 },
    ];
    let rows =
        requirements.iter().map(|one| vec![one.name.clone(), found(one).to_owned(), one.detail.clone()]);
    let mut text = draw(&columns, &rows.collect::<Vec<_>>(), fit);
    // Without its rights nothing else can be probed: the other findings would mislead.
    let without_rights = |one: &&RequirementView| one.name == CAPABILITIES && !one.found;
    let decisive = requirements.iter().find(without_rights);
    let missing = requirements.iter().filter(|one| !one.found);
    for one in missing.filter(|one| decisive.is_none_or(|decisive| decisive.name == one.name)) {
        text.push_str(&format!("\n{}: {}\n", one.name, one.advice));
    }
    let missing = requirements.iter().filter(|one| one.required && !one.found).count();
    text.push_str(&match missing {
        _ if decisive.is_some() => {
            "\nWithout these rights nothing can be probed: run `posthaste check` as root.\n".to_owned()
        }
        0 => "\nThis machine can run the agent.\n".to_owned(),
        count => format!("\nThis machine cannot run the agent: {count} of {} missing.\n", requirements.len()),
    });
    text
}

fn found(requirement: &RequirementView) -> &'static str {
    match (requirement.found, requirement.required) {
        (true, _) => "yes",
        (false, true) => "MISSING",
        (false, false) => "no",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_the_table() {
        let requirement = |name: &str, found, required| RequirementView {
            name: name.to_owned(),
            found,
            required,
            detail: "6.1.0".to_owned(),
            advice: "boot another kernel".to_owned(),
        };
        let all = [requirement("kernel", true, true), requirement("sk_lookup", false, true)];
        let text = text(&all, Fit { width: Some(60), wide: false });
        assert_eq!(
            text,
            "NEEDED     FOUND    DETAIL\n\
             kernel     yes      6.1.0\n\
             sk_lookup  MISSING  6.1.0\n\n\
             sk_lookup: boot another kernel\n\n\
             This machine cannot run the agent: 1 of 2 missing.\n"
        );
    }

    #[test]
    fn without_rights_only_that_is_said() {
        let requirement = |name: &str| RequirementView {
            name: name.to_owned(),
            found: false,
            required: true,
            detail: "no".to_owned(),
            advice: format!("mend {name}"),
        };
        let text =
            text(&[requirement(CAPABILITIES), requirement("map")], Fit { width: Some(60), wide: false });
        assert!(text.contains("capabilities: mend capabilities\n"), "{text}");
        assert!(!text.contains("mend map") && text.contains("as root"), "{text}");
    }
}
