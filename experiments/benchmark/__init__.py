"""Speed: ours beside PyTorch, Keras and tf.data."""
