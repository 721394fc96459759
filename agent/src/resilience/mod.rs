//! Pure state machines that decide when to avoid, retry or limit.
