//! The codec against a corpus of odd messages, tables of bodies and answers, and streams cut at random.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod answers;
mod bodies;
mod cases;
mod corpus;
mod corpus_bodies;
mod hop;
mod memory;
mod properties;
mod smoke;
mod transcript;
mod writing;
