"""A page to play with a trained network: `python -m experiments.demo`."""
