//! The callers that a pod has let in, on one worker: so that those who lose the right can be told at once, and nobody else is asked.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};

use slab::Slab;

use crate::snapshot::{
    Authorization, SpiffeId,
    authorization::{Facts, Verdict},
};

/// Live connections that policies have something to say about.
#[derive(Default)]
pub struct Admissions {
    entered: RefCell<Slab<Rc<Entry>>>,
    /// What they were last decided by.
    decided_by: RefCell<Option<Arc<Authorization>>>,
}

/// Who was let in, to which port.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who it proved to be.
    pub identity: Option<SpiffeId>,
    /// Its address.
    pub address: IpAddr,
    /// Port of the pod.
    pub port: u16,
    /// Its requests are read and decided one by one, so that only what needs none is decided here.
    pub by_request: bool,
}

struct Entry {
    caller: Caller,
    revoked: RefCell<Option<Verdict>>,
    waiting: Cell<Option<Waker>>,
}

/// A place among those who were let in, until it is dropped.
pub struct Admission {
    of: Rc<Admissions>,
    entry: Rc<Entry>,
    place: usize,
}

impl Caller {
    /// What the decision needs.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts { identity: self.identity.as_ref(), address: self.address, port: self.port }
    }
}

impl Admissions {
    /// Lets a caller in.
    #[must_use]
    pub fn enter(self: &Rc<Self>, caller: Caller) -> Admission {
        let entry = Rc::new(Entry { caller, revoked: RefCell::default(), waiting: Cell::default() });
        let place = self.entered.borrow_mut().insert(Rc::clone(&entry));
        Admission { of: Rc::clone(self), entry, place }
    }

    /// Decides again on everybody, where the policies have changed; those who lost the right are told.
    pub fn decide_again(&self, by: &Arc<Authorization>) {
        let before = self.decided_by.borrow_mut().replace(Arc::clone(by));
        if before.is_some_and(|before| *before == **by) {
            return;
        }
        for (_, entry) in self.entered.borrow().iter() {
            let decision = by.decide(&entry.caller.facts(), None);
            let verdict =
                if entry.caller.by_request { decision.settled() } else { Some(decision.without_http()) };
            if let Some(denied) = verdict.filter(|verdict| !verdict.allows()) {
                entry.revoked.replace(Some(denied));
                if let Some(waker) = entry.waiting.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl Admission {
    /// Does `work` for as long as the right lasts.
    ///
    /// # Errors
    /// What took the right away; the work was dropped.
    pub async fn guard<T>(&self, work: impl Future<Output = T>) -> Result<T, Verdict> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Some(denied) = self.entry.revoked.borrow_mut().take() {
                return Poll::Ready(Err(denied));
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            let known = self.entry.waiting.take().filter(|known| known.will_wake(context.waker()));
            self.entry.waiting.set(Some(known.unwrap_or_else(|| context.waker().clone())));
            Poll::Pending
        })
        .await
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.of.entered.borrow_mut().try_remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::snapshot::authorization::Policy;

    fn caller(address: [u8; 4]) -> Caller {
        Caller { identity: None, address: address.into(), port: 80, by_request: false }
    }

    fn closed() -> Arc<Authorization> {
        Authorization { default_deny: true, ..Authorization::default() }.into()
    }

    #[tokio::test]
    async fn who_loses_the_right_is_stopped_and_forgotten() {
        let admissions = Rc::new(Admissions::default());
        let stays = admissions.enter(caller([10, 0, 0, 1]));
        assert_eq!(stays.guard(async { 7 }).await, Ok(7));
        let (told, _) = tokio::join!(stays.guard(std::future::pending::<()>()), async {
            tokio::task::yield_now().await;
            admissions.decide_again(&Arc::default());
            admissions.decide_again(&closed());
        });
        assert!(told.is_err_and(|verdict| !verdict.allows()));
        drop(stays);
        assert!(admissions.entered.borrow().is_empty());
    }

    #[tokio::test]
    async fn equal_policies_decide_nothing_again() {
        let admissions = Rc::new(Admissions::default());
        admissions.decide_again(&closed());
        let late = admissions.enter(caller([10, 0, 0, 1]));
        admissions.decide_again(&closed());
        assert_eq!(late.guard(async {}).await, Ok(()));
        let none = Policy { name: "a/b".into(), ports: Some(vec![81]), rules: Arc::default() };
        admissions
            .decide_again(&Arc::new(Authorization { allow: vec![none.into()], ..Authorization::default() }));
        assert_eq!(late.guard(async {}).await, Ok(()), "a policy for another port");
    }
}
