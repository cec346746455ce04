"""Statistics: distributions, intervals that hold at every look, and many tests at once."""
