//! Spans to an OpenTelemetry collector over OTLP/gRPC. A worker puts a finished request into a bounded queue and never waits;
//! a task of the control runtime sends batches. What does not fit, or cannot be sent, is dropped and counted.
//!
//! | file | what |
//! |---|---|
//! | `queue` | between the workers and the task |
//! | `span` | a request as spans, by OpenTelemetry's conventions |
//! | `export` | the task |

mod queue;

pub use queue::{SpanCounts, SpanQueue};
