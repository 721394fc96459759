//! Metrics, connection table, access log, admin socket.
