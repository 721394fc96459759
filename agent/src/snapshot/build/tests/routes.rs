//! Routes from objects.
