"""Explanations of what a trained network sees.

classifier = inception_jax.load("/data/googlenet")
[explanation] = inception_jax.explain.attribute(classifier, "cat.jpg", "gradcam", "tabby")
explanation.heat  # float32 [H, W], how much each pixel of the crop counts
"""

from inception_jax.explain.attribution import Explainer, Explanation, Unit, attribute, make_explainer
from inception_jax.explain.methods import METHODS

__all__ = ["METHODS", "Explainer", "Explanation", "Unit", "attribute", "make_explainer"]
