//! Which rule a request matches. Pure.
//!
//! Precedence of an HTTPRoute (`HTTPRouteRule.matches`): exact path, longest prefix, method, number of headers, number of query
//! parameters, oldest object, `namespace/name`, place in the object. Where a regular expression stands is ours to say: behind
//! every prefix but `/`, which is what a match without a path means and would leave it nothing. Of a GRPCRoute
//! (`GRPCRouteRule.matches`): longest service, longest method, number of headers, then as above; expressions come after
//! exact services and before what names no service. A prefix is a prefix of whole elements: `/a` holds `/a` and `/a/b`, not `/ab`.
//!
//! Exact paths are found by hash, prefixes by a walk along the elements of the path, so the number of routes does not count.
//! Expressions, and matches that differ only beside the path, are tried one after the other.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use http::{HeaderMap, Method};

use super::{
    Rule,
    entry::{Entry, PathMatch},
    predicate::ValueMatch,
};

/// What of a request decides its route.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'request> {
    /// Method.
    pub method: &'request Method,
    /// Path without query, as it was sent.
    pub path: &'request str,
    /// Query without `?`.
    pub query: Option<&'request str>,
    /// Headers.
    pub headers: &'request HeaderMap,
    /// Host or `:authority`, as it was sent.
    pub authority: &'request str,
}

/// The rule of a request.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'table> {
    /// The rule.
    pub rule: &'table Arc<Rule>,
    /// Bytes of the path that a prefix match took, without a slash at its end; 0 where it was none, or `/`.
    pub prefix: usize,
}

/// All rules for one service port and one kind of caller, indexed so that exact paths and prefixes cost the same however many
/// there are.
#[derive(Debug, Default)]
pub struct RouteTable {
    rules: Vec<Arc<Rule>>,
    /// In order of precedence; the lists below are ascending places in it.
    entries: Vec<Entry>,
    exact: HashMap<Arc<str>, Vec<usize>>,
    /// The prefixes, element by element; the first is the root, which is `/`.
    prefixes: Vec<Element>,
    /// Expressions that come before what names no path.
    patterns: Vec<usize>,
    /// gRPC methods of any service.
    methods: HashMap<Box<str>, Vec<usize>>,
    /// Expressions for gRPC methods of any service.
    method_patterns: Vec<usize>,
}

/// An element of a prefix.
#[derive(Debug, Default)]
struct Element {
    children: HashMap<Box<str>, usize>,
    parent: Option<usize>,
    entries: Vec<usize>,
}

impl RouteTable {
    /// Sorts and indexes the matches of all rules.
    #[must_use]
    pub fn of(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_cached_key(Entry::precedence);
        let prefixes = vec![Element::default()];
        let mut table = Self { prefixes, ..Self::default() };
        let mut seen = HashSet::new();
        for (place, entry) in entries.iter().enumerate() {
            table.index(place, &entry.path);
            if seen.insert(Arc::as_ptr(&entry.rule)) {
                table.rules.push(entry.rule.clone());
            }
        }
        table.entries = entries;
        table
    }

    fn index(&mut self, place: usize, path: &PathMatch) {
        match path {
            PathMatch::Never => {}
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default().push(place),
            PathMatch::Prefix(prefix) => self.grow(prefix, place),
            PathMatch::Regex(_) => self.patterns.push(place),
            PathMatch::Grpc { service: None, method: None } => self.grow("", place),
            PathMatch::Grpc {
                service: Some(ValueMatch::Exact(service)),
                method: Some(ValueMatch::Exact(method)),
            } => self.exact.entry(format!("/{service}/{method}").into()).or_default().push(place),
            PathMatch::Grpc { service: Some(ValueMatch::Exact(service)), method: None } => {
                self.grow(&format!("/{service}"), place);
            }
            PathMatch::Grpc { service: None, method: Some(ValueMatch::Exact(method)) } => {
                self.methods.entry(method.clone()).or_default().push(place);
            }
            PathMatch::Grpc { service: None, .. } => self.method_patterns.push(place),
            PathMatch::Grpc { .. } => self.patterns.push(place),
        }
    }

    /// Adds a place to the list of a prefix, whose elements are made as needed.
    fn grow(&mut self, prefix: &str, place: usize) {
        let mut at = 0;
        for name in prefix.split('/').skip(1) {
            let fresh = self.prefixes.len();
            let Some(element) = self.prefixes.get_mut(at) else { return };
            let next = *element.children.entry(name.into()).or_insert(fresh);
            if next == fresh {
                self.prefixes.push(Element { parent: Some(at), ..Element::default() });
            }
            at = next;
        }
        if let Some(element) = self.prefixes.get_mut(at) {
            element.entries.push(place);
        }
    }

    /// The rule that wins by the specification's precedence; none is answered 404 (gRPC: UNIMPLEMENTED).
    #[must_use]
    pub fn choose(&self, request: &RequestView<'_>) -> Option<Choice<'_>> {
        self.search(request, &mut || {})
    }

    /// `step` is called for every element walked and every match tried.
    pub(super) fn search(&self, request: &RequestView<'_>, step: &mut impl FnMut()) -> Option<Choice<'_>> {
        let places = |list: &[usize], step: &mut dyn FnMut()| self.first(list, request, step);
        if let Some(found) = self.exact.get(request.path).and_then(|list| places(list, step)) {
            return Some(found);
        }
        // From the longest prefix back; the root comes last of all.
        let mut at = self.walk(request.path, step);
        while let Some(element) = at.and_then(|at| self.prefixes.get(at)) {
            if element.parent.is_some()
                && let Some(found) = places(&element.entries, step)
            {
                return Some(found);
            }
            at = element.parent;
        }
        let method = request.path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let methods = method.and_then(|(_, method)| self.methods.get(method)).map_or(&[][..], Vec::as_slice);
        let root = self.prefixes.first().map_or(&[][..], |root| root.entries.as_slice());
        let rest = [self.patterns.as_slice(), methods, &self.method_patterns, root];
        rest.into_iter().find_map(|list| places(list, step))
    }

    /// The deepest element along a path.
    fn walk(&self, path: &str, step: &mut impl FnMut()) -> Option<usize> {
        let mut at = 0;
        for name in path.split('/').skip(1) {
            step();
            match self.prefixes.get(at)?.children.get(name) {
                Some(next) => at = *next,
                None => break,
            }
        }
        Some(at)
    }

    fn first(
        &self,
        places: &[usize],
        request: &RequestView<'_>,
        step: &mut dyn FnMut(),
    ) -> Option<Choice<'_>> {
        let mut entries = places.iter().filter_map(|place| self.entries.get(*place));
        let entry = entries.find(|entry| {
            step();
            entry.unmet(request).is_none()
        })?;
        let prefix = match &entry.path {
            PathMatch::Prefix(prefix) => prefix.len(),
            _ => 0,
        };
        Some(Choice { rule: &entry.rule, prefix })
    }

    /// All rules, in order of precedence of their best match, for people.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// All matches, in order of precedence, for people: each shows as `/path* GET header[name]=value`.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
