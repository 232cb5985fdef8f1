"""Where objects are: boxes from the heat maps of a classifier, and how well they fit.

classifier = inception_jax.load("/data/googlenet_gap")
source = BoxedSource(open_source("folder", "val", "/data/imagenet"), "/data/Annotations/CLS-LOC/val")
images = list(localise(classifier, source, "cam"))
summarise(images).top5_error
"""

from inception_jax.localization.localise import Localised, localise
from inception_jax.localization.metrics import Summary, summarise
from inception_jax.localization.regression import localise_by_regression

__all__ = ["Localised", "Summary", "localise", "localise_by_regression", "summarise"]
