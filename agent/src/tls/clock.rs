//! The wall clock that certificates are judged by, as a value that is handed in.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

/// Tells the time since the Unix epoch; cheap to clone. Whoever starts the agent gives [`Clock::system`].
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// The machine's own wall clock.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// A clock that answers what `read` says: time since the Unix epoch.
    pub fn new(read: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Time since the Unix epoch.
    #[must_use]
    pub fn since_epoch(&self) -> Duration {
        (self.0)()
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn millis(&self) -> u64 {
        u64::try_from(self.since_epoch().as_millis()).unwrap_or(u64::MAX)
    }

    /// The same instant as a date.
    #[must_use]
    pub fn date(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
            .saturating_add(self.since_epoch().try_into().unwrap_or(time::Duration::MAX))
    }

    /// The same instant as rustls and webpki want it.
    #[must_use]
    pub fn unix(&self) -> UnixTime {
        UnixTime::since_unix_epoch(self.since_epoch())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.since_epoch()).finish()
    }
}

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix())
    }
}
