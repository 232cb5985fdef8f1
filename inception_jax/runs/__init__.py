"""Everything that touches a run's files: writing, reading, checkpoints, trained networks."""
