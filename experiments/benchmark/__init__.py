"""Speed and memory beside PyTorch, Keras and tf.data."""

PARTS = ("ops", "model", "memory", "crops", "loader", "startup", "scaling")
