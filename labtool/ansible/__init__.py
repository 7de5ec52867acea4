"""Inventory text, the ansible-runner boundary, typed events."""
