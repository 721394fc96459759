//! The rules of one policy as they are compared. Pure.

use std::sync::Arc;

use http::HeaderName;

use crate::snapshot::{
    Problem,
    authorization::{
        Choice, Condition, Operation, Rule, Source,
        matcher::{Block, PathPattern, Pattern},
    },
    input::authorization::{self as given, AuthorizationPolicy, KIND, Part},
};

pub(super) fn rules(policy: &AuthorizationPolicy, problems: &mut Vec<Problem>) -> Vec<Rule> {
    let mut reader = Reader { policy, problems, broken: false };
    policy.spec.rules.iter().enumerate().map(|(place, rule)| reader.rule(place, rule)).collect()
}

type Given = Option<Vec<String>>;

struct Reader<'a> {
    policy: &'a AuthorizationPolicy,
    problems: &'a mut Vec<Problem>,
    /// Something of what is read at the moment could not be.
    broken: bool,
}

impl Reader<'_> {
    fn rule(&mut self, place: usize, rule: &given::Rule) -> Rule {
        let field = format!("spec.rules[{place}]");
        let from = rule.from.iter().flatten().enumerate();
        let from = from.map(|(at, from)| self.source(&format!("{field}.from[{at}]"), &from.source)).collect();
        let to = rule.to.iter().flatten().enumerate();
        let to = to.map(|(at, to)| self.operation(&format!("{field}.to[{at}]"), &to.operation)).collect();
        let when = rule.when.iter().flatten().enumerate();
        let when = when.map(|(at, when)| self.condition(&format!("{field}.when[{at}]"), when));
        let mut when: Vec<Condition> = when.collect();
        if self.policy.lacks(&Part::Rule(place)) {
            when.push(Condition::Broken);
        }
        Rule { from, to, when }
    }

    fn lacks(&self, member: &str) -> bool {
        self.policy.lacks(&Part::Member(member.to_owned()))
    }

    fn source(&mut self, member: &str, source: &given::Source) -> Source {
        let field = &*format!("{member}.source");
        self.broken = self.lacks(member);
        let text = |text: &str| Ok(Pattern::parse(text));
        let own = self.policy.metadata.namespace.clone();
        let account = move |text: &str| service_account(&own, text);
        Source {
            principals: self.choice(
                field,
                ["principals", "notPrincipals"],
                &source.principals,
                &source.not_principals,
                principal,
            ),
            namespaces: self.choice(
                field,
                ["namespaces", "notNamespaces"],
                &source.namespaces,
                &source.not_namespaces,
                text,
            ),
            service_accounts: self.choice(
                field,
                ["serviceAccounts", "notServiceAccounts"],
                &source.service_accounts,
                &source.not_service_accounts,
                account,
            ),
            blocks: self.choice(
                field,
                ["ipBlocks", "notIpBlocks"],
                &source.ip_blocks,
                &source.not_ip_blocks,
                Block::parse,
            ),
            broken: self.broken,
        }
    }

    fn operation(&mut self, member: &str, operation: &given::Operation) -> Operation {
        let field = &*format!("{member}.operation");
        self.broken = self.lacks(member);
        let text = |text: &str| Ok(Pattern::parse(text));
        let host = |text: &str| Ok(Pattern::parse(&text.to_ascii_lowercase()));
        Operation {
            ports: self.choice(field, ["ports", "notPorts"], &operation.ports, &operation.not_ports, port),
            hosts: self.choice(field, ["hosts", "notHosts"], &operation.hosts, &operation.not_hosts, host),
            methods: self.choice(
                field,
                ["methods", "notMethods"],
                &operation.methods,
                &operation.not_methods,
                text,
            ),
            paths: self.choice(
                field,
                ["paths", "notPaths"],
                &operation.paths,
                &operation.not_paths,
                PathPattern::parse,
            ),
            broken: self.broken,
        }
    }

    fn condition(&mut self, field: &str, condition: &given::Condition) -> Condition {
        if self.lacks(field) {
            return Condition::Broken;
        }
        self.broken = false;
        let text = |text: &str| Ok(Pattern::parse(text));
        let names = ["values", "notValues"];
        let (values, not) = (&condition.values, &condition.not_values);
        if values.is_none() && not.is_none() {
            self.problem(format!("{field}.values"), "is missing; give `values` or `notValues`");
        }
        let read = match condition.key.as_str() {
            "source.ip" => {
                let blocks = self.choice(field, names, values, not, Block::parse);
                Condition::Source(Source { blocks, ..Source::default() })
            }
            "source.namespace" => {
                let namespaces = self.choice(field, names, values, not, text);
                Condition::Source(Source { namespaces, ..Source::default() })
            }
            "source.principal" => {
                let principals = self.choice(field, names, values, not, principal);
                Condition::Source(Source { principals, ..Source::default() })
            }
            "destination.port" => Condition::Port(self.choice(field, names, values, not, port)),
            key => match header(key) {
                Ok(name) => Condition::Header(name, self.choice(field, names, values, not, text)),
                Err(reason) => {
                    self.problem(format!("{field}.key"), &reason);
                    Condition::Broken
                }
            },
        };
        if self.broken { Condition::Broken } else { read }
    }

    fn choice<P>(
        &mut self,
        field: &str,
        [any_name, none_name]: [&str; 2],
        any: &Given,
        none: &Given,
        parse: impl Fn(&str) -> Result<P, String>,
    ) -> Choice<P> {
        let any = self.values(&format!("{field}.{any_name}"), any, &parse);
        let none = self.values(&format!("{field}.{none_name}"), none, &parse);
        Choice { any, none }
    }

    fn values<P>(
        &mut self,
        field: &str,
        values: &Given,
        parse: impl Fn(&str) -> Result<P, String>,
    ) -> Vec<P> {
        let Some(values) = values else { return Vec::new() };
        if values.is_empty() {
            self.problem(field.to_owned(), "is empty; give a value, or leave the field out");
        }
        let mut read = Vec::with_capacity(values.len());
        for (at, value) in values.iter().enumerate() {
            match parse(value) {
                Ok(value) => read.push(value),
                Err(reason) => self.problem(format!("{field}[{at}]"), &reason),
            }
        }
        read
    }

    fn problem(&mut self, field: String, reason: &str) {
        self.broken = true;
        let effect = match self.policy.spec.action.unwrap_or_default() {
            given::Action::Allow => "until mended this part allows nothing",
            given::Action::Deny => "until mended this part matches, and so denies",
        };
        let reason = format!("{reason}; {effect}");
        self.problems.push(Problem::of(&self.policy.metadata, KIND, field, reason));
    }
}

fn principal(text: &str) -> Result<Pattern, String> {
    match text.strip_prefix("spiffe://") {
        Some(rest) => Err(format!("`{text}` begins with `spiffe://`; write `{rest}`")),
        None if text.is_empty() => {
            Err("is empty; write `cluster.local/ns/NAMESPACE/sa/SERVICEACCOUNT`, or `*`".into())
        }
        None => Ok(Pattern::parse(text)),
    }
}

fn service_account(own: &Arc<str>, text: &str) -> Result<(Arc<str>, Arc<str>), String> {
    let (namespace, name) =
        text.split_once('/').map_or((&**own, text), |(namespace, name)| (namespace, name));
    if namespace.is_empty() || name.is_empty() || text.contains('*') || name.contains('/') {
        return Err(format!(
            "`{text}` is not a service account; write `NAMESPACE/NAME` or `NAME`, without `*`"
        ));
    }
    Ok((namespace.into(), name.into()))
}

fn port(text: &str) -> Result<u16, String> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse::<u16>().ok().filter(|port| plain && *port > 0);
    port.ok_or_else(|| format!("`{text}` is not a port; write a number from 1 to 65535"))
}

/// The name in `request.headers[NAME]`.
fn header(key: &str) -> Result<HeaderName, String> {
    let known = "use `request.headers[NAME]`, `source.ip`, `source.namespace`, `source.principal` or `destination.port`";
    let name = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
    let name = name.ok_or_else(|| format!("`{key}` is not known; {known}"))?;
    name.parse().map_err(|_| format!("`{name}` is not the name of a header; {known}"))
}
