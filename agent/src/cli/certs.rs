//! `posthaste certs`: the certificates of the pods of this node.

use super::{
    CliError, Options, client, present,
    table::{Column, Fit, WIDE, draw},
    units::left,
};
use crate::observe::{clock::wall_ns, views::CertificateView};
use std::io::Write;

/// Asks and shows.
pub(super) fn show(options: &Options, out: &mut dyn Write) -> Result<(), CliError> {
    let certificates: Vec<CertificateView> = client::ask(&options.place, "/certs")?;
    let now = i64::try_from(wall_ns() / 1_000_000_000).unwrap_or(i64::MAX);
    present(options, &certificates, out, |fit| table(&certificates, now, fit))
}

fn table(certificates: &[CertificateView], now: i64, fit: Fit) -> String {
    if certificates.is_empty() {
        return "no certificates\n".to_owned();
    }
    let columns = [
        Column { title: "IDENTITY", rank: 0, least: 20 },
        Column { title: "STATE", rank: 0, least: 6 },
        Column { title: "EXPIRES IN", rank: 1, least: 8 },
        Column { title: "RENEWS IN", rank: 2, least: 8 },
        Column { title: "SERIAL", rank: WIDE, least: 8 },
        Column { title: "ERROR", rank: 0, least: 10 },
    ];
    let until =
        |moment: Option<i64>| moment.map_or_else(|| "-".to_owned(), |end| left(end.saturating_sub(now)));
    let rows = certificates.iter().map(|one| {
        vec![
            one.identity.clone(),
            one.state.clone(),
            until(one.not_after),
            until(one.renew_at),
            one.serial.clone().unwrap_or_default(),
            one.error.clone().unwrap_or_default(),
        ]
    });
    draw(&columns, &rows.collect::<Vec<_>>(), fit)
}
