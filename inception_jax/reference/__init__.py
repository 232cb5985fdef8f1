"""The numbers that the papers, and the code released with them, print: data with its sources."""

from inception_jax.reference import classics, inception
from inception_jax.reference.printed import Printed

__all__ = ["NOTES", "PRINTED", "Printed"]

# What was printed about each network, by its name.
PRINTED: dict[str, tuple[Printed, ...]] = classics.PRINTED | inception.PRINTED

# By the name of the network: where paper and code, or parts of a paper, disagree beyond the numbers, and which one this
# code follows.
NOTES: dict[str, tuple[str, ...]] = classics.NOTES | inception.NOTES
