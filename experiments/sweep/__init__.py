"""Runs sweeps: from a sweep file to its tasks, their jobs, and what a person sees of them."""
