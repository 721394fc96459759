//! What to change in the CA's Secret: nothing, the first root, a root that was given, one that replaces an old one, or one
//! less. Pure: the time is an argument; keys are made by the caller.
//!
//! A new root is trusted at once and signs only when every leaf that was issued without it is over, so that whoever still
//! holds a valid leaf trusts it. A new certificate under anchors that are trusted already signs at once.

use std::time::Duration;

use time::OffsetDateTime;

use crate::ca::roots::{self, Root, StoredRoot};

/// How much longer than the longest leaf a new root waits: replicas that have not read it yet, clocks that differ.
pub(crate) const MARGIN: Duration = Duration::from_secs(300);
/// A root that ends sooner is replaced by itself.
const REPLACE_BEFORE: time::Duration = time::Duration::days(365);
/// Name of what was given, before its number.
const GIVEN: &str = "given";

/// What the owner of the cluster gave to sign with, as cert-manager writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// `tls.crt`.
    pub(crate) certificate: String,
    /// `tls.key`.
    pub(crate) key: String,
    /// `ca.crt`, where it is not the certificate itself.
    pub(crate) anchors: Option<String>,
}

/// What rules the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// How long a new root is trusted before it signs.
    pub(crate) overlap: Duration,
    /// Longest life of a leaf.
    pub(crate) longest: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a root that signs from then on, and add it.
    Make {
        /// When it begins.
        signs_from: OffsetDateTime,
    },
    /// Store these instead.
    Store(Vec<StoredRoot>),
}

/// The next step, if any. `stored` is empty before the first start; `open` are the same roots, parsed.
pub(crate) fn next(
    stored: &[StoredRoot],
    open: &[Root],
    given: Option<&Given>,
    now: OffsetDateTime,
    rules: Rules,
) -> Option<Step> {
    let signs_from = if stored.is_empty() { now } else { now + rules.overlap };
    if let Some(given) = given.filter(|given| !stored.iter().any(|root| is_same(root, given))) {
        let known = stored.iter().any(|root| root.anchors() == given.anchors());
        let root = given.root(now, if known { now } else { signs_from });
        return Some(Step::Store(stored.iter().cloned().chain([root]).collect()));
    }
    let ends_soon = || open.iter().all(|root| root.not_after - now < REPLACE_BEFORE);
    // Who gives roots renews them as well.
    if stored.is_empty() || given.is_none() && ends_soon() {
        return Some(Step::Make { signs_from });
    }
    let needed = roots::needed(stored, now, rules.longest);
    (needed.len() < stored.len()).then_some(Step::Store(needed))
}

fn is_same(root: &StoredRoot, given: &Given) -> bool {
    root.certificate == given.certificate && root.anchors() == given.anchors()
}

impl Given {
    fn anchors(&self) -> &str {
        self.anchors.as_deref().unwrap_or(&self.certificate)
    }

    /// It as a root that signs from `signs_from`.
    pub(crate) fn root(&self, now: OffsetDateTime, signs_from: OffsetDateTime) -> StoredRoot {
        StoredRoot {
            name: format!("{GIVEN}-{}", now.unix_timestamp()),
            certificate: self.certificate.clone(),
            anchors: self.anchors.clone(),
            key: self.key.clone(),
            signs_from,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const DAY: u64 = 24 * 3600;
    const RULES: Rules = Rules { overlap: Duration::from_secs(DAY + 300), longest: Duration::from_secs(DAY) };

    fn at(days: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap() + time::Duration::days(days)
    }

    fn made(number: usize, from: i64) -> StoredRoot {
        StoredRoot::make("cluster.local", number, at(from), at(from)).unwrap()
    }

    fn given(root: &StoredRoot) -> Given {
        Given { certificate: root.certificate.clone(), key: root.key.clone(), anchors: None }
    }

    fn next_of(stored: &[StoredRoot], given: Option<&Given>, now: OffsetDateTime) -> Option<Step> {
        let open: Vec<Root> = stored.iter().map(|root| root.open().unwrap()).collect();
        next(stored, &open, given, now, RULES)
    }

    fn stored(step: Option<Step>) -> Vec<StoredRoot> {
        let Some(Step::Store(roots)) = step else { panic!("{step:?}") };
        roots
    }

    #[test]
    fn the_first_root_signs_at_once_and_then_nothing_happens() {
        assert_eq!(next_of(&[], None, at(0)), Some(Step::Make { signs_from: at(0) }));
        let first = made(1, 0);
        assert_eq!(next_of(std::slice::from_ref(&first), None, at(100)), None);
        let roots = stored(next_of(&[], Some(&given(&first)), at(0)));
        assert_eq!((roots.len(), roots[0].signs_from), (1, at(0)), "a given one is taken instead");
        assert_eq!(next_of(&roots, Some(&given(&first)), at(1)), None);
    }

    #[test]
    fn a_given_root_waits_for_the_overlap_and_the_old_one_goes_after_its_leaves() {
        let (old, new) = (made(1, 0), made(2, 0));
        let both = stored(next_of(&[old], Some(&given(&new)), at(10)));
        assert_eq!(both[1].signs_from, at(10) + RULES.overlap);
        assert_eq!(next_of(&both, Some(&given(&new)), at(11)), None);
        assert_eq!(next_of(&both, Some(&given(&new)), both[1].signs_from + RULES.longest), None);
        let after = both[1].signs_from + RULES.longest + Duration::from_secs(1);
        let only = stored(next_of(&both, Some(&given(&new)), after));
        assert_eq!(only, both[1..]);
    }

    #[test]
    fn a_certificate_under_the_same_anchors_signs_at_once() {
        let (root, one, two) = (made(1, 0), made(2, 0), made(3, 0));
        let under = |signer: &StoredRoot| Given { anchors: Some(root.certificate.clone()), ..given(signer) };
        let roots = stored(next_of(&[], Some(&under(&one)), at(0)));
        let roots = stored(next_of(&roots, Some(&under(&two)), at(5)));
        assert_eq!(roots[1].signs_from, at(5));
    }

    #[test]
    fn a_root_near_its_end_is_replaced() {
        let old = made(1, 0);
        let late = at(3650 - 364);
        let step = next_of(std::slice::from_ref(&old), None, late);
        assert_eq!(step, Some(Step::Make { signs_from: late + RULES.overlap }));
        assert_eq!(
            next_of(std::slice::from_ref(&old), Some(&given(&old)), late),
            None,
            "whoever gave it renews it"
        );
    }
}
