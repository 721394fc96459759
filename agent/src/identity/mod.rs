//! SPIFFE certificates of the pods of this node: keys are made here and never written, certificates come from a
//! [`CertificateSource`] (an Istio CA over gRPC, or the CA inside this process) and are renewed at half their life.
//!
//! The decisions are pure: `renewal` (when), `schedule` (which first, how many at once), `answer` (is it what was asked
//! for). [`IdentityStore`] does the work around them on the control runtime. What is refused: a certificate for someone
//! else, one that does not chain to the roots it came with, and the use of any certificate after its end.

mod answer;
mod client;
mod issuing;
mod renewal;
mod request;
mod schedule;
mod source;
mod status;
mod store;
#[cfg(test)]
mod tests;

pub use answer::AnswerError;
pub use client::CaClientError;
pub use client::{CaClient, CaClientOptions};
pub use source::{CertificateSource, Embedded, IssueError, Issued, Issuing};
pub use status::{CertificateState, CertificateStatus};
pub use store::{IdentityError, IdentityStore, StoreOptions};
