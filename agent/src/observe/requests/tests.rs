//! A request from its beginning to its end, as counters, lines, taps and commands show it.
