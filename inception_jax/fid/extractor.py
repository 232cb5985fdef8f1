"""The feature network of a FID: resizes images and computes their features on all devices of this process."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from inception_jax.errors import UserError, check_choice, choose
from inception_jax.fid.protocols import PROTOCOLS, Canvases, Protocol, resize
from inception_jax.models.network import Network
from inception_jax.models.units import Logits
from inception_jax.parallel import REPLICATED, SPLIT, DataParallel
from inception_jax.runs.classifier import Classifier, load
from inception_jax.weights import files

NETWORK, END_POINT = "inception_v3_fid", "pool"
WEIGHTS = "pytorch_fid/inception"  # the graph of 2015-12-05, converted; see docs/weights.md
# ADM's sFID: the first 7 channels of 'mixed_6/conv' (openai/guided-diffusion, evaluations/evaluator.py), the 1x1 branch
# of the second-to-last 17x17 module, which comes first in the concatenation.
_SPATIAL, _SPATIAL_CHANNELS = "mixed_6d", 7
OUTPUTS = ("features", "spatial", "logits")


@dataclasses.dataclass(frozen=True, eq=False)  # equal only to itself, so that it can be hashed
class Extractor:
    """A feature network with its weights, a protocol, and the devices that it runs on.

    Attributes:
      classifier: the network.
      protocol: how images become its input.
      end_point: the layer whose output, averaged over its grid, are the features.
      parallel: devices of this process.
    """

    classifier: Classifier
    protocol: Protocol
    end_point: str
    parallel: DataParallel

    @property
    def size(self) -> int:
        """Height and width of the network's input."""
        return self.classifier.crop_config.size

    @property
    def is_reference(self) -> bool:
        """Whether it is the network that FID is defined by, so that its numbers are FIDs."""
        return self.classifier.name == NETWORK and self.end_point == END_POINT

    @property
    def kind(self) -> str:
        """What the distance is to be called: 'FID', or 'FID-like, network ...'."""
        return "FID" if self.is_reference else f"FID-like, network {self.classifier.name}, {self.end_point}"

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that two sets must have in common to be compared, JSON."""
        return {
            "protocol": self.protocol.name,
            "network": self.classifier.name,
            "end_point": self.end_point,
            "size": self.size,
            "weights_sha256": files.sha256(self.classifier.variables),
        }

    def dimensions(self, output: str) -> int:
        """Returns the length of an output's vectors: 2048 for the features of Inception-v3.

        Raises:
          UserError: the network has no such output: 'spatial' is of the network of 2015 only.
        """
        if output not in self._shapes:
            raise UserError(f"{self.classifier.name} has no {output} features: sFID is of {NETWORK} only")
        return self._shapes[output]

    @functools.cached_property
    def _shapes(self) -> dict[str, int]:
        image = jax.ShapeDtypeStruct((1, self.size, self.size, 3), jnp.float32)
        outputs = [name for name in OUTPUTS if name != "spatial" or self.classifier.name == NETWORK]
        shapes = jax.eval_shape(functools.partial(self._run, tuple(outputs)), self.classifier.variables, image)
        return {name: shape.shape[1] for name, shape in shapes.items()}

    def run(self, canvases: Canvases, outputs: Sequence[str]) -> dict[str, jax.Array]:
        """Computes outputs of a batch, float32 [N, d] each, split over the devices; does not wait for them.

        Args:
          canvases: N images, N a multiple of the number of devices; see `protocols.stack`.
          outputs: some of OUTPUTS: 'features'; 'spatial', of sFID; 'logits', of the Inception score.
        """
        placed = jax.tree.map(self._place, canvases)
        return self._network(tuple(outputs))(self._variables, self._resize(placed))

    def _place(self, array: Any) -> jax.Array:
        return jax.device_put(array, self.parallel.split)

    @functools.cached_property
    def _variables(self) -> dict:
        return self.parallel.replicate(self.classifier.variables)

    # Two programs: resizing is compiled for each shape of a batch, which takes a moment; the network is compiled once.
    @functools.cached_property
    def _resize(self) -> Callable:
        return self.parallel.map(resize, (SPLIT,), SPLIT)

    @functools.cache  # noqa: B019 (an extractor lives as long as its process)
    def _network(self, outputs: tuple[str, ...]) -> Callable:
        return self.parallel.map(functools.partial(self._run, outputs), (REPLICATED, SPLIT), SPLIT)

    def _run(self, outputs: tuple[str, ...], variables: Mapping[str, Any], pixels: jax.Array) -> dict[str, jax.Array]:
        # By default a GPU rounds the factors of float32 products to 10 bits (TensorFloat-32), a TPU to 7 (bfloat16).
        with jax.default_matmul_precision("highest"):
            _, end_points = self.classifier.model.apply(variables, self._normalise(pixels, variables))
        found: dict[str, Callable[[], jax.Array]] = {
            "features": lambda: _vectors(end_points[self.end_point]),
            "spatial": lambda: end_points[_SPATIAL][..., :_SPATIAL_CHANNELS].reshape(len(pixels), -1),
            "logits": lambda: end_points[self.classifier.end_points[-1]] - self._bias(variables),
        }
        return {name: found[name]().astype(jnp.float32) for name in outputs}

    def _normalise(self, pixels: jax.Array, variables: Mapping[str, Any]) -> jax.Array:
        if self.classifier.name == NETWORK:
            return (pixels - self.protocol.mean) / self.protocol.std
        return self.classifier.preprocessing.evaluate(pixels, variables["dataset_stats"])

    def _bias(self, variables: Mapping[str, Any]) -> Any:
        """The last bias: the Inception score of the network of 2015 is that of the logits without it."""
        if self.classifier.name != NETWORK:
            return 0
        model: Network = self.classifier.model
        name, unit = model.layers[-1]
        assert isinstance(unit, Logits)
        return variables["params"][name][unit.name]["bias"]


def _vectors(end_point: jax.Array) -> jax.Array:
    return end_point.mean(axis=tuple(range(1, end_point.ndim - 1)))


def make_extractor(
    protocol: str = "tf",
    weights: str | os.PathLike | Classifier = WEIGHTS,
    end_point: str = "",
    devices: Sequence[jax.Device] | None = None,
) -> Extractor:
    """Returns the feature network of a FID.

    Args:
      protocol: one of `PROTOCOLS`.
      weights: the network: what `inception_jax.load` takes, or returns. The default is the network of 2015 by its name
        of docs/weights.md, which is fetched once. Another network makes other distances, which are not FIDs.
      end_point: name of the layer that gives the features; '': 'pool', the default network's 2048.
      devices: devices of this process; all by default.

    Raises:
      UserError: an argument is invalid, or the weights cannot be read.
    """
    chosen = choose("protocol", protocol, PROTOCOLS)
    classifier = weights if isinstance(weights, Classifier) else load(weights)
    check_choice("end_point", end_point or END_POINT, classifier.end_points)
    return Extractor(classifier, chosen, end_point or END_POINT, DataParallel(devices=devices or jax.local_devices()))
