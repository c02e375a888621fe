"""Pure nouns and decisions: no I/O, no clock, no randomness."""
