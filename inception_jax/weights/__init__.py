"""Weights outside of a run: files, and loading them into a network."""
