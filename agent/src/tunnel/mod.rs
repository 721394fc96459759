//! How bytes travel between two agents (HBONE).
