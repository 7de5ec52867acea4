"""Logs, host metrics, CloudWatch and clock offsets → files of a run."""
