//! Tests of the codec.

mod memory;
mod smoke;
