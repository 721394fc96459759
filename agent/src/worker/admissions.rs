//! The callers that a pod has let in, on one worker: so that those who lose the right can be told at once, and nobody else is asked.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use slab::Slab;

use crate::snapshot::{
    Authorization, SpiffeId,
    authorization::{Asked, Facts, Verdict},
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
    /// What it was let in for.
    pub with: With,
}

/// What a caller was let in for, by which it is decided again.
#[derive(Clone, Debug)]
pub enum With {
    /// Bytes that nobody reads.
    Bytes,
    /// Requests, which are read and decided one by one: only what needs none is decided for the connection.
    Requests,
    /// One request that is under way.
    Request(Rc<Asked>),
}

struct Entry {
    of: Rc<Admissions>,
    place: usize,
    caller: Caller,
    revoked: RefCell<Option<Verdict>>,
    waiting: Cell<Option<Waker>>,
}

/// A place among those who were let in, until it is dropped. One pointer, since every connection has one.
pub struct Admission {
    entry: Rc<Entry>,
}

impl Caller {
    /// What the decision needs.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts { identity: self.identity.as_ref(), address: self.address, port: self.port }
    }

    /// What holds for what it was let in for, where that is known.
    fn decide(&self, by: &Authorization) -> Option<Verdict> {
        let facts = self.facts();
        match &self.with {
            With::Bytes => Some(by.decide(&facts, None).without_http()),
            With::Requests => by.decide(&facts, None).settled(),
            With::Request(asked) => Some(by.decide_request(&facts, asked)),
        }
    }
}

impl Admissions {
    /// Lets a caller in.
    #[must_use]
    pub fn enter(self: &Rc<Self>, caller: Caller) -> Admission {
        let mut entered = self.entered.borrow_mut();
        let (of, place) = (Rc::clone(self), entered.vacant_key());
        let (revoked, waiting) = (RefCell::default(), Cell::default());
        let entry = Rc::new(Entry { of, place, caller, revoked, waiting });
        entered.insert(Rc::clone(&entry));
        Admission { entry }
    }

    /// How many are in: connections, and requests of those that are read.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.entered.borrow().len()).unwrap_or(u32::MAX)
    }

    /// Decides again on everybody, where the policies have changed; those who lost the right are told.
    pub fn decide_again(&self, by: &Arc<Authorization>) {
        let before = self.decided_by.borrow_mut().replace(Arc::clone(by));
        if before.is_some_and(|before| *before == **by) {
            return;
        }
        for (_, entry) in self.entered.borrow().iter() {
            let verdict = entry.caller.decide(by);
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
    /// Who was let in.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.entry.caller
    }

    /// Whether it was let in to be read.
    #[must_use]
    pub fn reads_requests(&self) -> bool {
        matches!(self.entry.caller.with, With::Requests)
    }

    /// Polls work unless the right is gone; an error is what took it away, and the work is to be dropped then.
    pub fn poll<T>(
        &self,
        context: &mut Context<'_>,
        work: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Verdict>> {
        if let Some(denied) = self.entry.revoked.borrow_mut().take() {
            return Poll::Ready(Err(denied));
        }
        if let Poll::Ready(done) = work(context) {
            return Poll::Ready(Ok(done));
        }
        let known = self.entry.waiting.take().filter(|known| known.will_wake(context.waker()));
        self.entry.waiting.set(Some(known.unwrap_or_else(|| context.waker().clone())));
        Poll::Pending
    }

    /// Does `work` for as long as the right lasts.
    ///
    /// # Errors
    /// What took the right away; the work was dropped.
    pub async fn guard<T>(&self, work: impl Future<Output = T>) -> Result<T, Verdict> {
        let mut work = pin!(work);
        poll_fn(|context| self.poll(context, |context| work.as_mut().poll(context))).await
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.entry.of.entered.borrow_mut().try_remove(self.entry.place);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::snapshot::authorization::Policy;

    fn caller(address: [u8; 4]) -> Caller {
        Caller { identity: None, address: address.into(), port: 80, with: With::Bytes }
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
