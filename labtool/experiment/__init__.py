"""Deploy, run and profile: the order of the work."""
