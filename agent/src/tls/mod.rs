//! rustls configurations and verification of the peer.
