"""Exact evaluation: metrics, protocols, ensembles, predictions."""
