"""Evaluation: exact metrics and the report."""
