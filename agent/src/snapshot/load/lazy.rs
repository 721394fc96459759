//! What is learnt of endpoints and service ports, made when somebody first looks: a cluster has a hundred thousand of them, of which the
//! pods of one node call a few.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

/// Shared by the snapshots in which the endpoint or port is.
pub type Shared<T> = Arc<Lazy<T>>;

/// See the head of this file.
#[derive(Debug)]
pub struct Lazy<T> {
    known: OnceLock<Box<T>>,
    first: fn() -> T,
}

impl<T> Lazy<T> {
    /// `first` is what it is when somebody looks.
    pub(crate) fn new(first: fn() -> T) -> Self {
        Self { known: OnceLock::new(), first }
    }

    /// Only where it was looked at before: for those who look at everything.
    #[must_use]
    pub fn known(&self) -> Option<&T> {
        self.known.get().map(|known| &**known)
    }
}

impl<T: Default> Default for Lazy<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.known.get_or_init(|| Box::new((self.first)()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_once_and_only_when_looked_at() {
        let shared: Shared<String> = Arc::new(Lazy::new(|| "made".to_owned()));
        assert!(shared.known().is_none());
        let place: *const String = &raw const **shared;
        assert_eq!((&***shared, place), ("made", &raw const **shared.clone()));
        assert!(shared.known().is_some_and(|known| std::ptr::eq(known, place)));
    }
}
