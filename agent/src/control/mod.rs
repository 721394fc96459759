//! Sources: Kubernetes objects from files (later: the API server) to `snapshot::input::Inputs`.
