"""Settings of synthetic datasets, which are part of their names: 'glyphs/size=48,difficulty=1'."""

import dataclasses
import math
from typing import ClassVar, Self

import tensorflow_datasets as tfds

from inception_jax.errors import UserError


@dataclasses.dataclass(eq=False)
class Settings(tfds.core.BuilderConfig):
    """Whole numbers with which a dataset is drawn. The name lists all, such as 'size=32,train=3000,test=2000'.

    A subclass has a field for each, with its default, and states:

    Attributes:
      dataset: what errors call the dataset.
      bounds: {setting: (smallest value, largest value)}, in the order of the name; the largest may be infinite.
    """

    name: str = dataclasses.field(init=False)
    dataset: ClassVar[str]
    bounds: ClassVar[dict[str, tuple[int, float]]]

    def __post_init__(self):
        self.name = ",".join(f"{key}={getattr(self, key)}" for key in self.bounds)

    @classmethod
    def parse(cls, settings: str) -> Self:
        """Reads for instance 'size=48,difficulty=1'; other settings keep their defaults.

        Raises:
          UserError: a setting is unknown, has an invalid value, or comes twice.
        """
        values = {}
        for setting in filter(None, settings.split(",")):
            key, _, value = setting.partition("=")
            if key not in cls.bounds:
                raise UserError(
                    f"the {cls.dataset} have no setting {setting!r}; they have {', '.join(cls.bounds)}, "
                    f"as in {cls.dataset}/size=48,test=500"
                )
            least, most = cls.bounds[key]
            if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
                bounds = f"{least} to {most}" if most < math.inf else f"at least {least}"
                raise UserError(f"the {cls.dataset} cannot have {setting!r}: {key} is a whole number, {bounds}")
            if key in values:
                raise UserError(f"the {cls.dataset}' {key} is set twice in {settings!r}; give it once")
            values[key] = int(value)
        return cls(**values)
