//! Understands apt's source lists, both formats (sources.list(5)), to learn which Debian mirror this machine
//! uses and which key it trusts. Pure: text in, mirrors out; lines that it does not understand are passed over,
//! as they may belong to other archives.

/// One archive that the machine takes packages from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Base addresses, as written.
    pub(crate) addresses: Vec<String>,
    /// Such as `bookworm`, `bookworm-updates`.
    pub(crate) suites: Vec<String>,
    /// Such as `main`.
    pub(crate) components: Vec<String>,
    /// The key ring file named by `signed-by`, if any.
    pub(crate) key_ring: Option<String>,
}

/// The format of `/etc/apt/sources.list` and `*.list`: `deb [options] address suite component…`.
pub(crate) fn parse_lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (address, suite) = (words.next()?, words.next()?);
    let key_ring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let key_ring = key_ring.and_then(key_ring_file);
    Some(Source { addresses: vec![address], suites: vec![suite], components: words.collect(), key_ring })
}

/// The format of `*.sources`: paragraphs of `Field: value`, continued by lines that begin with a space (deb822(5)).
pub(crate) fn parse_paragraphs(text: &str) -> Vec<Source> {
    let text = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    text.split("\n\n").filter_map(parse_paragraph).collect()
}

fn parse_paragraph(paragraph: &str) -> Option<Source> {
    let words = |name: &str| -> Vec<String> {
        field(paragraph, name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let enabled = !matches!(words("Enabled").first().map(String::as_str), Some("no" | "false" | "0" | "off"));
    let holds_packages = words("Types").iter().any(|kind| kind == "deb");
    (enabled && holds_packages).then(|| Source {
        addresses: words("URIs"),
        suites: words("Suites"),
        components: words("Components"),
        key_ring: field(paragraph, "Signed-By").as_deref().and_then(key_ring_file),
    })
}

fn field(paragraph: &str, name: &str) -> Option<String> {
    let mut lines = paragraph.lines().skip_while(|line| !is_field(line, name));
    let first = lines.next()?.split_once(':')?.1.to_owned();
    let more = lines.take_while(|line| line.starts_with([' ', '\t']));
    Some(more.fold(first, |value, line| value + "\n" + line).trim().to_owned())
}

fn is_field(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
}

/// Only a file; a key written into the list itself is left to apt's own.
fn key_ring_file(value: &str) -> Option<String> {
    let first = value.split([',', ' ', '\n']).next()?;
    first.starts_with('/').then(|| first.to_owned())
}

/// The mirror of Debian proper: a source that serves the installed release itself, with its key ring.
pub(crate) fn debian_mirror(sources: &[Source], codename: &str) -> Option<(String, Option<String>)> {
    let serves = |source: &&Source| {
        source.components.iter().any(|component| component == "main")
            && source
                .suites
                .iter()
                .any(|suite| [codename, "stable", "testing", "unstable", "sid"].contains(&suite.as_str()))
    };
    let source = sources.iter().find(serves)?;
    let address = source.addresses.iter().find(|address| !address.starts_with("cdrom:"))?;
    Some((address.trim_end_matches('/').to_owned(), source.key_ring.clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const RING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

    #[test]
    fn reads_one_line_sources() {
        let text = "# comment\ndeb-src http://mirror.test/debian bookworm main\n\
            deb http://mirror.test/security bookworm-security main\n\
            deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.test/debian/ bookworm main contrib # x\n";
        let sources = parse_lines(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(
            debian_mirror(&sources, "bookworm"),
            Some(("http://mirror.test/debian".into(), Some(RING.into())))
        );
    }

    #[test]
    fn reads_paragraphs_with_comments_and_continued_fields() {
        let text = format!(
            "Types: deb deb-src\n# an old address\nURIs: http://mirror.test/debian\nSuites: bookworm\n bookworm-updates\n\
             Components: main\nSigned-By: {RING}\n\nTypes: deb\nEnabled: no\nURIs: http://off.test/\nSuites: bookworm\nComponents: main\n"
        );
        let sources = parse_paragraphs(&text);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            debian_mirror(&sources, "bookworm"),
            Some(("http://mirror.test/debian".into(), Some(RING.into())))
        );
    }

    #[test]
    fn a_key_written_into_the_list_is_no_file() {
        let text = "Types: deb\nURIs: http://m.test/debian\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN PGP\n .\n abc\n";
        assert_eq!(parse_paragraphs(text)[0].key_ring, None);
    }

    #[test]
    fn foreign_archives_are_not_debian() {
        let sources = parse_lines("deb http://other.test/apt cloud-sdk main\ndeb cdrom:[x]/ bookworm main\n");
        assert_eq!(debian_mirror(&sources, "bookworm"), None);
    }
}
