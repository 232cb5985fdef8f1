"""What the papers, and the code that was released with them, printed: data with its sources."""

from inception_jax.reference import classics, inception
from inception_jax.reference.printed import Printed

__all__ = ["NOTES", "PRINTED", "Printed"]

# By the name of the network.
PRINTED: dict[str, tuple[Printed, ...]] = classics.PRINTED | inception.PRINTED

# Where paper and code, or parts of a paper, disagree in what no table of numbers shows, and what is followed here.
NOTES: dict[str, tuple[str, ...]] = classics.NOTES | inception.NOTES
