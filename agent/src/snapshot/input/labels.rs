//! Labels, annotations and selectors of objects: read often, written once, mostly one or two. Pure.

use std::collections::BTreeMap;

/// Texts by name, sorted. A tenth of the size of a map where there are few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| (**known).cmp(name));
        found.ok().and_then(|place| self.0.get(place)).map(|(_, value)| &**value)
    }

    /// All of them, by name.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only the one of this name.
    #[must_use]
    pub fn only(self, name: &str) -> Self {
        Self(self.0.into_iter().filter(|(known, _)| **known == *name).collect())
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl serde::Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.pairs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Labels::from(pairs.collect::<BTreeMap<_, _>>())
        };
        let labels = of(&[("b", "2"), ("a", "1"), ("c", "")]);
        let found: Vec<_> = ["a", "b", "c", "d", ""].iter().map(|name| labels.get(name)).collect();
        assert_eq!(found, [Some("1"), Some("2"), Some(""), None, None]);
        assert_eq!(labels.pairs().map(|(name, _)| name).collect::<String>(), "abc");
        assert_eq!((labels.clone().only("b"), labels.only("d").is_empty()), (of(&[("b", "2")]), true));
    }
}
