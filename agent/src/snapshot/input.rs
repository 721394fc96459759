//! The objects a source yields, already parsed. Pure. Both sources (files, API server) produce the same.
