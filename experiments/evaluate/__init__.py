"""Evaluation of checkpoints by the papers' protocols."""
