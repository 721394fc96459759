//! The lines that the eBPF programs log (only where something had no room) on their way to the agent's log.

use aya::Ebpf;
use aya_log::EbpfLogger;

/// Reads the programs' log. The ring is pinned like every map, so lines of the time without an agent are read by the
/// next one, as far as the ring held them.
pub(super) struct LogLines(Option<EbpfLogger<Forward>>);

impl LogLines {
    /// Takes the ring out of the loaded object. Capture does without a log where the ring cannot be opened.
    pub(super) fn open(object: &mut Ebpf) -> Self {
        let logger = EbpfLogger::init_with_logger(object, Forward);
        Self(
            logger
                .inspect_err(|error| tracing::warn!(%error, "the log of the eBPF programs cannot be read"))
                .ok(),
        )
    }

    /// Writes what has come since.
    pub(super) fn drain(&mut self) {
        if let Some(logger) = &mut self.0 {
            logger.flush();
        }
    }
}

/// Hands lines from aya-log to tracing.
struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::warn!(target: "posthaste::kernel", "{}", record.args());
    }

    fn flush(&self) {}
}
