"""Maps between the parameters of a network and the arrays of the files that others publish.

A map is data: it names, for each scope of our parameters ('inception_4a/conv5x5'), the file's prefix. How arrays are
named below a prefix and laid out belongs to the framework. Shapes come from the network, so they are checked both ways.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.errors import UserError
from inception_jax.models import create_model, num_classes_of, units
from inception_jax.models.network import Network
from inception_jax.weights.files import flatten

_NOTHING = -100.0  # bias of a class that a file has and we drop: it must never win


@dataclasses.dataclass(frozen=True)
class Framework:
    """How a framework names the arrays of a scope, and lays them out.

    Attributes:
      separator: between a scope's prefix and the array.
      layer: names of a convolution's or dense layer's arrays: 'kernel', 'bias', 'depthwise' (a depthwise kernel).
      norm: names of batch normalisation's arrays: 'scale', 'bias', 'mean', 'var'.
      channels_first: kernels are [out, in, height, width] and [out, in], and a grid is flattened channels first;
        otherwise they are [height, width, in, out] and [in, out], and channels are last.
    """

    separator: str
    layer: Mapping[str, str]
    norm: Mapping[str, str]
    channels_first: bool


TORCH = Framework(
    separator=".",
    layer={"kernel": "weight", "bias": "bias", "depthwise": "weight"},
    norm={"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"},
    channels_first=True,
)
KERAS = Framework(
    separator="/",
    layer={"kernel": "kernel", "bias": "bias", "depthwise": "depthwise_kernel"},
    norm={"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"},
    channels_first=False,
)
SLIM = Framework(
    separator="/",
    layer={"kernel": "weights", "bias": "biases", "depthwise": "depthwise_weights"},
    norm={name: f"BatchNorm/{array}" for name, array in KERAS.norm.items()},
    channels_first=False,
)
CAFFE = Framework(separator="/", layer={"kernel": "0", "bias": "1"}, norm={}, channels_first=True)


@dataclasses.dataclass(frozen=True)
class WeightMap:
    """Where the arrays of a network stand in a file.

    Attributes:
      network: name of the network.
      options: its options, which make the flavour of the file.
      framework: names and layout of the arrays.
      scopes: the file's prefix by our scope: {'inception_4a/conv5x5': 'inception4a.branch3.1.conv'}.
      ignored: reason by regular expression (of a whole name): arrays of the file that are not used.
      convolved: our scopes of dense layers that the file holds as convolutions.
      folded: whether the file's convolutions have biases that our network lacks. They are subtracted from the mean of
        the batch normalisation that follows, which is the same function.
      background: number of first classes of the file that are dropped: 1 where class 0 means 'none of these'.
      bgr: whether the file's network takes the channels of an image as blue, green, red.
      absent: our scopes that the file lacks, such as the classifier; they are 0 after the import.
      names: names in the file of our arrays ('params/...') that the framework's rule does not give.
      prepare: what is done to the names of a file's arrays beforehand.
    """

    network: str
    options: Mapping[str, Any]
    framework: Framework
    scopes: Mapping[str, str]
    ignored: Mapping[str, str] = dataclasses.field(default_factory=dict)
    convolved: Collection[str] = ()
    folded: bool = False
    background: int = 0
    bgr: bool = False
    absent: Collection[str] = ()
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prepare: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of our arrays and its place in a file.

    Attributes:
      ours: name such as 'params/inception_4a/conv5x5/kernel'; None: the bias of a convolution, folded into `fold`.
      theirs: name in the file.
      shape: shape in the file; None stands for the number of its classes.
      read: makes our array from the file's.
      write: makes the file's array from ours.
    """

    ours: str | None
    theirs: str
    shape: tuple[int | None, ...]
    read: Callable[[np.ndarray], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]
    fold: str | None = None


def to_ours(weights: WeightMap, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the variables of the network, {'params': ..., 'batch_stats': ...}, from the arrays of a file.

    Each array of the file is used exactly once or ignored for a reason that the map states. Every variable is filled.

    Raises:
      UserError: arrays are missing, left over or of other shapes; lists all of them.
    """
    arrays = weights.prepare(arrays) if weights.prepare else arrays
    check(weights, arrays)
    flat = {name: np.zeros(shape, np.float32) for name, shape in _absent(_Identity(weights)).items()}
    for entry in entries(weights):
        if entry.ours:
            flat[entry.ours] = entry.read(np.asarray(arrays[entry.theirs])).astype(np.float32)
    for entry in entries(weights):
        if entry.fold:
            flat[entry.fold] = flat[entry.fold] - arrays[entry.theirs]
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def check(weights: WeightMap, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises a UserError that lists the arrays that are missing, left over or of other shapes than the map's."""
    arrays = weights.prepare(arrays) if weights.prepare else arrays
    problems, used = [], set()
    classes = number_of_classes(weights, arrays)
    for entry in entries(weights):
        used.add(entry.theirs)
        expected = tuple(classes + weights.background if n is None else n for n in entry.shape)
        if entry.theirs not in arrays:
            problems.append(f"{entry.theirs}: missing ({_shape(expected)})")
        elif arrays[entry.theirs].shape != expected:
            problems.append(f"{entry.theirs}: {_shape(arrays[entry.theirs].shape)} in place of {_shape(expected)}")
    left = [name for name in arrays if name not in used and not _ignored(weights, name)]
    problems += [f"{name}: not known ({_shape(arrays[name].shape)})" for name in left]
    if problems:
        lines = "\n".join(f"  {line}" for line in problems)
        raise UserError(f"the weights are not those of {weights.network}; {len(problems)} arrays differ:\n{lines}")


def to_theirs(weights: WeightMap, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file from the variables of the network: the inverse of `to_ours`.

    Classes that `to_ours` drops get a bias of -100. Folded biases are 0, because the mean has them.

    Raises:
      UserError: the variables are not those of the network.
    """
    ours = flatten({part: variables[part] for part in ("params", "batch_stats") if part in variables})
    ours = {name: array for name, array in ours.items() if name not in _absent(_Identity(weights))}
    named = {entry.ours for entry in entries(weights) if entry.ours}
    if different := sorted(named ^ ours.keys()):
        raise UserError(f"the variables are not those of {weights.network} as the file has it: {', '.join(different)}")
    found = {}
    for entry in entries(weights):
        array = ours[entry.ours] if entry.ours else np.zeros_like(ours[str(entry.fold)])
        found[entry.theirs] = np.ascontiguousarray(entry.write(array))
    return found


def number_of_classes(weights: WeightMap, arrays: Mapping[str, np.ndarray]) -> int:
    """Returns the number of classes of a file without those that are dropped; without a classifier the network's own.

    Raises:
      UserError: the classifier is missing.
    """
    arrays = weights.prepare(arrays) if weights.prepare else arrays
    classifier = next((entry for entry in entries(weights) if None in entry.shape), None)
    if classifier is None:
        return next(shape[0] for name, shape in _absent(_Identity(weights)).items() if name.endswith("classifier/bias"))
    if classifier.theirs not in arrays:
        raise UserError(f"the weights of {weights.network} have {classifier.theirs}, which is missing")
    shape = arrays[classifier.theirs].shape
    if len(shape) != len(classifier.shape):
        raise UserError(f"{classifier.theirs}: {_shape(shape)} has another number of dimensions than the classifier")
    return shape[classifier.shape.index(None)] - weights.background


def default_classes(weights: WeightMap) -> int:
    """Returns the number of classes of the network unless another is asked for."""
    return num_classes_of(weights.network)


def classifiers(weights: WeightMap) -> set[str]:
    """Returns the scopes of the network whose outputs are class scores: 'logits/classifier', 'aux/classifier'."""
    return _classifiers(build(weights))


def build(weights: WeightMap, **options) -> Network:
    """Builds the network of a map; `options` as in `create_model`."""
    return create_model(weights.network, **weights.options, **options)


def entries(weights: WeightMap) -> tuple[Entry, ...]:
    """Returns the places of all arrays of the network, in its order.

    Raises:
      KeyError: the map lacks a scope of the network, or has one that the network lacks.
    """
    # A map's dicts cannot be hashed; each map is one object of a module.
    return _entries(_Identity(weights))


class _Identity:
    """A value that equals itself alone, so that it can be a key of a cache."""

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return id(self.value)

    def __eq__(self, other):
        return self.value is other.value


@functools.cache
def _entries(key: _Identity) -> tuple[Entry, ...]:
    weights: WeightMap = key.value
    framework, model = weights.framework, build(weights)
    variables, grids = _traced(weights.network, tuple(weights.options.items()))
    leaves = {name: leaf.shape for name, leaf in flax.traverse_util.flatten_dict(variables, sep="/").items()}
    scopes = {_scope(name) for name in leaves}
    if scopes != {*weights.scopes, *weights.absent}:
        different = sorted(scopes ^ {*weights.scopes, *weights.absent})
        raise KeyError(f"{weights.network}: the map differs in the scopes {different}")
    first = next(_scopes_of(model, units.Conv, units.DepthwiseConv))
    classifiers, depthwise = _classifiers(model), set(_scopes_of(model, units.DepthwiseConv))
    found = []
    for name, shape in leaves.items():
        scope, leaf = _scope(name), name.rpartition("/")[2]
        if scope in weights.absent:
            continue
        is_norm = f"batch_stats/{scope}/mean" in leaves
        is_depthwise = scope in depthwise
        kinds = framework.norm if is_norm else framework.layer
        prefix = weights.scopes[scope] + framework.separator
        layout = _Layout(
            weights,
            shape,
            grid=grids.get(scope),
            classes=scope in classifiers,
            convolved=scope in weights.convolved,
            depthwise=model.input_shape[2] if is_depthwise else 0,
            bgr=weights.bgr and scope == first and leaf == "kernel",
        )
        theirs = weights.names.get(name, prefix + kinds["depthwise" if is_depthwise else leaf])
        found.append(Entry(name, theirs, layout.file_shape, layout.read, layout.write))
        if weights.folded and leaf == "mean":
            bias = weights.scopes[scope.removesuffix("_bn")] + framework.separator + framework.layer["bias"]
            found.append(Entry(None, bias, shape, _same, _same, fold=name))
    return tuple(found)


@functools.cache
def _absent(key: _Identity) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the arrays that a file lacks."""
    weights: WeightMap = key.value
    if not weights.absent:
        return {}
    leaves = flax.traverse_util.flatten_dict(_traced(weights.network, tuple(weights.options.items()))[0], sep="/")
    return {name: leaf.shape for name, leaf in leaves.items() if _scope(name) in weights.absent}


def _scope(name: str) -> str:
    """Returns 'conv1/conv7x7' of 'params/conv1/conv7x7/kernel'."""
    return name.partition("/")[2].rpartition("/")[0]


def _same(array: np.ndarray) -> np.ndarray:
    return array


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Layout of one array in a file.

    Attributes:
      weights: the map.
      shape: shape of our array.
      grid: shape of the input of a dense layer.
      classes: whether the last dimension of our array is that of the classes.
      convolved: whether the file holds a dense kernel as a convolution's.
      depthwise: number of channels of the input of a depthwise kernel; 0: another kernel.
      bgr: whether the channels of the input are blue, green, red in the file.
    """

    weights: WeightMap
    shape: tuple[int, ...]
    grid: tuple[int, ...] | None
    classes: bool
    convolved: bool
    depthwise: int
    bgr: bool

    @property
    def file_shape(self) -> tuple[int | None, ...]:
        """Shape in the file; None stands for the number of classes."""
        shape: tuple[int | None, ...] = self.write(np.broadcast_to(np.float32(0), self.shape)).shape
        if not self.classes:
            return shape
        axis = 0 if self.weights.framework.channels_first else len(shape) - 1
        return (*shape[:axis], None, *shape[axis + 1 :])

    def read(self, array: np.ndarray) -> np.ndarray:
        """Makes our array from the file's."""
        height, width, channels = self._grid
        if self.depthwise and not self.weights.framework.channels_first:  # [h, w, C, m] to [h, w, 1, C * m]
            array = array.reshape(*array.shape[:2], 1, -1)
        elif self.weights.framework.channels_first and array.ndim > 1:
            if len(self.shape) == 2:
                array = array.reshape(-1, channels, height, width)
            array = array.transpose(2, 3, 1, 0)
        if len(self.shape) == 2:
            array = array.reshape(-1, array.shape[-1])
        if self.bgr:
            array = array[:, :, ::-1]
        return array[..., self.weights.background :] if self.classes else array

    def write(self, array: np.ndarray) -> np.ndarray:
        """Makes the file's array from ours."""
        if self.classes and self.weights.background:
            nothing = [(0, 0)] * (array.ndim - 1) + [(self.weights.background, 0)]
            array = np.pad(array, nothing, constant_values=_NOTHING if array.ndim == 1 else 0)
        if self.bgr:
            array = array[:, :, ::-1]
        if len(self.shape) == 2:
            array = array.reshape(*self._grid, -1)
        if self.depthwise and not self.weights.framework.channels_first:
            return array.reshape(*array.shape[:2], self.depthwise, -1)
        if self.weights.framework.channels_first and array.ndim > 1:
            array = array.transpose(3, 2, 0, 1)
            return array if len(self.shape) == 4 or self.convolved else array.reshape(len(array), -1)
        return array if len(self.shape) != 2 or self.convolved else array.reshape(-1, array.shape[-1])

    @property
    def _grid(self) -> tuple[int, int, int]:
        """Height, width and channels that a dense layer sees."""
        if self.grid is None or len(self.shape) != 2:
            return 1, 1, 1
        height, width = self.grid[:2] if len(self.grid) == 3 else (1, 1)
        return height, width, self.shape[0] // (height * width)


@functools.cache
def _traced(name: str, options: tuple[tuple[str, Any], ...]) -> tuple[dict, dict[str, tuple[int, ...]]]:
    """Returns a network's variables as shapes, and the shape of the input of each dense layer by its scope."""
    model, grids = create_model(name, **dict(options)), {}

    def record(call, arguments, options, context):
        if context.method_name == "_dense":
            unit, x = arguments[:2]
            grid = x.shape[1:] if unit.window is None else (unit.window, unit.window, x.shape[3])
            grids["/".join((*context.module.path, unit.name))] = grid
        return call(*arguments, **options)

    with nn.intercept_methods(record):
        variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *model.input_shape))))
    return variables, grids


def _units(unit: units.Unit) -> Iterator[Any]:
    yield unit
    match unit:
        case units.Chain(parts) | units.Concat(parts):
            for part in parts:
                yield from _units(part)
        case units.Residual(branch=branch, shortcut=shortcut):
            yield from _units(branch)
            if not isinstance(shortcut, bool):
                yield from _units(shortcut)


def _scopes_of(model: Network, *kinds: type) -> Iterator[str]:
    for name, unit in (*model.layers, *((head.name, head.unit) for head in model.aux_heads)):
        found: Iterator[Any] = (each for each in _units(unit) if isinstance(each, kinds))
        yield from (f"{name}/{each.name}" for each in found)


def _classifiers(model: Network) -> set[str]:
    """Returns the scopes whose outputs are class scores; a network of convolutions alone ends in one."""
    return set(_scopes_of(model, units.Logits)) or {[*_scopes_of(model, units.Conv)][-1]}


def _ignored(weights: WeightMap, name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in weights.ignored)


def _shape(shape: tuple[int | None, ...]) -> str:
    return "x".join("classes" if n is None else str(n) for n in shape) or "scalar"
