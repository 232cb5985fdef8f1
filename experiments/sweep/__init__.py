"""Sweeps: many runs at once, and the index of all runs under a directory."""
