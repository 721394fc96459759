//! Builds a snapshot from inputs. Pure.
