//! Tests of the codec.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod answers;
mod bodies;
mod corpus;
mod corpus_bodies;
mod hop;
mod memory;
mod properties;
mod smoke;
mod transcript;
mod writing;
