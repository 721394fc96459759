//! The commands that inspect an agent, one file each.
