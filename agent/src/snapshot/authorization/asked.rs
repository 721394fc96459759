//! A request as policies ask about it: every way in which a server may read it. Pure.

use http::{HeaderMap, Method, request::Parts};

use super::{
    Authorization, Decision, Facts, Request, Verdict,
    path::{self, PathFault},
};

/// What of a request is asked about, kept for as long as it is under way.
#[derive(Clone, Debug)]
pub struct Asked {
    /// As it was sent; and in capitals, which some servers make of it.
    methods: Vec<String>,
    host: String,
    /// See [`path`].
    paths: Vec<String>,
    headers: HeaderMap,
}

impl Asked {
    /// Reads the head of a request to `host`, as the request says it.
    ///
    /// # Errors
    /// Its path is one that no two servers need read alike: the request is to be refused.
    pub fn read(head: &Parts, host: &str) -> Result<Self, PathFault> {
        // In the form of CONNECT there is no path.
        let target = if head.method == Method::CONNECT { "" } else { head.uri.path() };
        let paths = path::readings(target)?.into_iter().map(Into::into).collect();
        Ok(Self {
            methods: readings(head.method.as_str()),
            host: plain_host(host),
            paths,
            headers: head.headers.clone(),
        })
    }

    fn readings(&self) -> impl Iterator<Item = Request<'_>> {
        let of_path = move |path| {
            let of = move |method| Request { method, host: &self.host, path, headers: &self.headers };
            self.methods.iter().map(String::as_str).map(of)
        };
        self.paths.iter().map(String::as_str).flat_map(of_path)
    }
}

fn readings(method: &str) -> Vec<String> {
    let capitals = method.to_ascii_uppercase();
    if capitals == method { vec![capitals] } else { vec![method.to_owned(), capitals] }
}

/// In lower case, without user names before it and dots at its end; a port stays.
fn plain_host(host: &str) -> String {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host).to_ascii_lowercase();
    match host.rsplit_once(':') {
        Some((name, "")) => name.trim_end_matches('.').to_owned(),
        Some((name, port)) if !port.contains(']') => format!("{}:{port}", name.trim_end_matches('.')),
        _ => host.trim_end_matches('.').to_owned(),
    }
}

impl Authorization {
    /// Whether it takes the request to decide, or to say what policies under trial would do.
    #[must_use]
    pub fn waits_for_request(&self, facts: &Facts<'_>) -> bool {
        matches!(self.decide(facts, None), Decision::Undecided(_)) || self.tries_requests(facts)
    }

    /// Decides on a request: the most restrictive of its readings counts.
    #[must_use]
    pub fn decide_request(&self, facts: &Facts<'_>, asked: &Asked) -> Verdict {
        let mut last = None;
        for request in asked.readings() {
            let verdict = self.decide(facts, Some(&request)).without_http();
            if !verdict.allows() {
                return verdict;
            }
            last = Some(verdict);
        }
        // There is always a reading.
        last.unwrap_or_else(|| self.decide(facts, None).without_http())
    }

    /// The names of the policies under trial that would have kept a request out.
    #[must_use]
    pub fn trials_of(&self, facts: &Facts<'_>, asked: &Asked) -> Vec<std::sync::Arc<str>> {
        let mut names: Vec<std::sync::Arc<str>> = Vec::new();
        if self.dry_run.is_empty() {
            return names;
        }
        for request in asked.readings() {
            for (policy, _) in self.trials(facts, Some(&request)) {
                if !names.contains(&policy.name) {
                    names.push(policy.name.clone());
                }
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn asked(method: &str, target: &str, host: &str) -> Result<Asked, PathFault> {
        let request = http::Request::builder().method(method).uri(target).body(()).unwrap();
        Asked::read(&request.into_parts().0, host)
    }

    #[test]
    fn hosts_are_compared_in_one_form() {
        let table = [
            ("a.example", "a.example"),
            ("A.Example.", "a.example"),
            ("A.example..:8080", "a.example:8080"),
            ("user@a.example:80", "a.example:80"),
            ("[FD00::1]", "[fd00::1]"),
            ("[FD00::1]:80", "[fd00::1]:80"),
            ("a.example:", "a.example"),
            ("", ""),
        ];
        for (sent, plain) in table {
            assert_eq!(asked("GET", "/", sent).unwrap().host, plain, "{sent}");
        }
    }

    #[test]
    fn methods_are_read_as_sent_and_in_capitals() {
        assert_eq!(asked("GET", "/", "a").unwrap().methods, ["GET"]);
        assert_eq!(asked("Delete", "/", "a").unwrap().methods, ["Delete", "DELETE"]);
        assert_eq!(asked("CONNECT", "a:80", "a:80").unwrap().paths, [""]);
        assert_eq!(asked("OPTIONS", "*", "a").unwrap().paths, ["*"]);
        assert_eq!(asked("GET", "/%zz", "a").unwrap_err(), PathFault::Percent);
    }
}
