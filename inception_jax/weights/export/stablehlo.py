"""Writes a classifier as StableHLO, which JAX runs without this package, on CPU, GPU and TPU, for any number of images.

It is for deployment, not for an archive: JAX reads an exported program for six months after the release that wrote it
(https://docs.jax.dev/en/latest/export/export.html, Compatibility guarantees). The weights are a file of their own.
"""

import datetime
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from inception_jax.errors import UserError
from inception_jax.weights import formats
from inception_jax.weights.export import archive
from inception_jax.weights.files import flatten

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, WEIGHTS = "model.stablehlo", "model.safetensors"
_MONTHS = datetime.timedelta(days=180)


def write(
    folder: Path,
    function: Callable[[Any, jax.Array], Any],
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    metadata: Mapping[str, Any],
) -> None:
    """Writes a folder with the program, the weights and config.json.

    Args:
      folder: to write.
      function: of (variables, images), images uint8 [N, height, width, 3].
      variables: nested dicts of arrays.
      image_shape: (height, width, 3).
      metadata: what config.json holds, beside JAX's version, the date and the day until which JAX reads the program.

    Raises:
      UserError: the folder cannot be written.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
    abstract = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in flatten(variables).items()}
    exported = jax.export.export(jax.jit(lambda flat, x: function(_nested(flat), x)), platforms=PLATFORMS)(
        abstract, images
    )
    today = datetime.date.today()
    note = {"jax": jax.__version__, "date": today.isoformat(), "readable_until": (today + _MONTHS).isoformat()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROGRAM).write_bytes(exported.serialize())
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from None
    program = {**note, "platforms": list(PLATFORMS)}
    archive.write(folder / WEIGHTS, variables, {**metadata, "stablehlo": program})


def read(folder: Path) -> Callable[[np.ndarray], Any]:
    """Returns the function of images that `write` wrote.

    Raises:
      UserError: it cannot be read, or this JAX does not read it any more.
    """
    config = json.loads((folder / archive.CONFIG).read_text(encoding="utf-8"))
    try:
        exported = jax.export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    except Exception as error:  # JAX raises several types for what is damaged or too old
        until = config["stablehlo"]["readable_until"]
        raise UserError(
            f"{folder / PROGRAM} cannot be read by JAX {jax.__version__} ({str(error).splitlines()[0]}); JAX "
            f"{config['stablehlo']['jax']} wrote it, readable until {until}; export it again from the archive"
        ) from None
    weights = dict(formats.read(folder / WEIGHTS).arrays)
    return jax.jit(lambda images: exported.call(weights, images))


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, leaf in flat.items():
        *path, last = name.split("/")
        at = nested
        for part in path:
            at = at.setdefault(part, {})
        at[last] = leaf
    return nested
