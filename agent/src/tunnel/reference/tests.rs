//! The tunnel over loopback TCP and real TLS.
