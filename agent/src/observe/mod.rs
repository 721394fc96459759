//! What people and other programs can see of the agent: the connection table, metrics, the access log and the
//! admin socket. The data path writes here once per stage through a [`Connection`]; everything else reads.
//!
//! | file | what |
//! |---|---|
//! | `connections` | the table: one shard per worker, recently closed rows |
//! | `connection` | the handle that the data path fills; records its end exactly once, also when dropped |
//! | `row` | what one connection costs while it lives |
//! | `reason` | why a connection ended, who ended it, its response flag |
//! | `stage`, `blame` | when a connection reached which stage; who took the time |
//! | `socket` | `TCP_INFO` of sockets that may be closed by another thread |
//! | `series` | label sets and their counters, found by pointer |
//! | `metrics` | what `/metrics` shows |
//! | `access_log`, `line`, `json` | one JSON line at open and at close |
//! | `views` | the shapes of the admin answers, shared with the CLI |
//! | `sources` | where all that is read comes from |
//! | `requests` | the same for requests: the handle, counters, lines, taps |
//! | `enrolment` | how pods came to be captured |
//! | `otlp` | spans to an OpenTelemetry collector |
//! | `carried`, `coverage` | what goes through the mesh, and what does not |
//! | `breakers` | load and health of endpoints, as `/endpoints` and metrics |
//! | `exposition` | the older text format, for who does not ask for OpenMetrics |
//! | `http`, `admin`, `request_answers`, `query` | the two servers and their answers |
//!
//! How the agent puts it together:
//!
//! ```ignore
//! let log = AccessLog::start(&AccessLogTarget::Stdout, workers)?;
//! let connections = Connections::new(workers, ConnectionLimits::default(), SeriesTable::new(SERIES_LIMIT), log);
//! let mut sources = Sources::new(node, snapshot, problems, connections.clone());
//! sources.capture = Arc::new(move || ..);
//! let sources = Arc::new(sources);
//! let metrics = Arc::new(Metrics::new(&sources, &sources.series));
//! tokio::spawn(http::serve(Listener::Tcp(tcp), admin::public_answers(sources.clone(), metrics.clone())));
//! tokio::spawn(http::serve(admin::listen(&path)?, admin::admin_answers(sources, metrics)));
//! ```

pub mod access_log;
pub mod admin;
mod agent_metrics;
pub mod blame;
pub(crate) mod breakers;
mod carried;
pub mod clock;
pub mod connection;
pub mod connections;
pub(crate) mod coverage;
pub mod denials;
pub mod enrolment;
mod exposition;
pub mod http;
mod json;
mod line;
pub mod metrics;
pub mod otlp;
mod peer_uid;
pub(crate) mod query;
pub mod reason;
mod request_answers;
pub mod requests;
pub mod row;
pub mod series;
pub mod socket;
pub mod sources;
pub mod stage;
#[cfg(test)]
pub(crate) mod tests;
pub mod views;

pub use access_log::{AccessLog, AccessLogTarget};
pub use clock::monotonic_ns;
pub use connection::{Attached, Connection};
pub use connections::{ConnectionLimits, Connections, Opening};
pub use denials::{Denied, would_deny};
pub use enrolment::Enrolments;
pub use metrics::Metrics;
pub use reason::{CloseReason, Direction, EndedBy, ResponseFlag, Security};
pub use requests::{RequestFlag, RequestOpening, RequestProtocol, RequestRecord, Requests};
pub use row::ServiceName;
pub use series::{SERIES_LIMIT, SeriesTable};
pub use socket::{LiveSocket, SocketWatch, TcpInfo, TunnelSocket};
pub use sources::{Explainer, Sources, Supply, TunnelCounts};
pub use stage::{Stage, StagesView as Stages};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks also after a panic elsewhere: every value guarded here is valid after each single write.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
