"""Breaks every promise about lost work on purpose: `python -m experiments.torture`."""
