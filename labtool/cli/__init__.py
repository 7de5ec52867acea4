"""Typer commands: parse, make one call, render. No logic."""
