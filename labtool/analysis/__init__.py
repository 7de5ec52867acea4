"""Tables → findings: pure functions from a run in memory to what may be said of it."""
