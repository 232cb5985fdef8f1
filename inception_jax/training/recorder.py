"""Records a snapshot of each evaluation, beside the training."""

import concurrent.futures
import functools
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.data import loader
from inception_jax.errors import UserError
from inception_jax.evaluation.metrics import Evaluation
from inception_jax.parallel import FAST_COMPILE
from inception_jax.paths import AnyPath
from inception_jax.runs import snapshots
from inception_jax.training.experiment import Experiment

_IMAGES = 256  # test images whose predictions are kept, spread over the split
_END_POINTS, _CHANNELS, _UNITS = 16, 8, 128  # most that are kept, spread over the network, a layer, a vector
_SIDE, _IMAGE_SIDE = 16, 64  # pixels of a channel and of the image, at most


class Recorder:
    """Records snapshots, and calls who shows them, in one thread.

    The training waits only for a copy of the evaluated weights. All else runs on the CPU, also if the training does
    not: so nothing waits in a device's queue, and no memory of a device is used. If evaluations come faster than
    snapshots are made, only the latest one that waits is made.
    """

    def __init__(
        self,
        experiment: Experiment,
        workdir: AnyPath,
        say: Callable[[str], None],
        on_evaluation: Callable[[], object],
    ):
        """Prepares; nothing is computed yet.

        Args:
          experiment: what is trained.
          workdir: directory of the run.
          say: called with one line if something fails, once for each line.
          on_evaluation: called in the thread after each evaluation but the last, when its files are written.
        """
        self._experiment, self._workdir, self._on_evaluation = experiment, workdir, on_evaluation
        self._say = functools.cache(say)
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "recorder")
        self._latest: concurrent.futures.Future | None = None
        self._is_closed = False

    def record(self, step: int, variables: Mapping[str, Any], evaluation: Evaluation) -> None:
        """Begins to record an evaluation.

        Args:
          step: number of finished steps.
          variables: that were evaluated, on devices; copied before this returns.
          evaluation: the result.
        """
        if self._latest is not None:
            self._latest.cancel()  # unless it has begun
        copies = jax.tree.map(_copy, variables)
        self._latest = self._pool.submit(self._work, step, copies, evaluation)

    def wait(self) -> None:
        """Waits until all is recorded."""
        if self._latest is not None:
            concurrent.futures.wait([self._latest])

    def close(self) -> None:
        """Waits for nothing; what has not begun is dropped, what has begun writes nothing more."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self, step: int, variables: dict[str, Any], evaluation: Evaluation) -> None:
        def record():
            snapshot = self._snapshot(step, variables, evaluation)
            if not self._is_closed:
                snapshots.write(self._workdir, snapshot)

        self._attempt("a snapshot is not recorded", record)
        if step < self._experiment.total_steps and not self._is_closed:
            self._attempt("what follows an evaluation failed", self._on_evaluation)

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        try:
            with jax.default_device(jax.local_devices(backend="cpu")[0]):
                action()
        except UserError as error:
            self._say(f"warning: {what}: {error}")
        except Exception as error:  # no failure may end the training
            self._say(f"warning: {what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def _snapshot(self, step: int, variables: dict[str, Any], evaluation: Evaluation) -> snapshots.Snapshot:
        seen = np.flatnonzero(evaluation.labels >= 0)
        places = seen[np.linspace(0, len(seen) - 1, min(len(seen), _IMAGES)).astype(int)]
        filters = snapshots.first_filters(variables["params"])
        return snapshots.Snapshot(
            step=step,
            places=places,
            labels=evaluation.labels[places],
            classes=evaluation.classes[places, 0],
            probabilities=evaluation.probabilities[places, 0],
            filters=np.zeros((0, 0, 3, 0), np.uint8) if filters is None else snapshots.as_bytes(filters, (0, 1, 2)),
            image=_small(self._crop, _IMAGE_SIDE),
            activations={
                name: snapshots.as_bytes(_small(np.asarray(values), _SIDE), (0, 1, 2))
                for name, values in zip(self._end_points, self._channels(variables, self._crop), strict=True)
            },
        )

    @functools.cached_property
    def _crop(self) -> np.ndarray:
        """The evaluation crop of the first test image that can be decoded, uint8 [size, size, 3]."""
        crops, source = self._experiment.crop_config, self._experiment.eval_source
        images = (loader.whole_image(source, place, crops.max_pixels) for place in range(len(source)))
        crop = np.empty((crops.size, crops.size, 3), np.uint8)
        crops.eval_crop(next(image for image in images if image is not None), crop)
        return crop

    @functools.cached_property
    def _end_points(self) -> list[str]:
        names = [name for name, _ in self._experiment.model.layers]
        return [names[place] for place in _spread(len(names), _END_POINTS)]

    @functools.cached_property
    def _channels(self) -> Callable[[Mapping[str, Any], np.ndarray], list[jax.Array]]:
        """A function of variables and crop: some channels of each of `_end_points`, float32 [h, w, channels]."""
        model = self._experiment.model.clone(batch_norm_axis=None, batch_statistics=None)

        def channels(variables, crop):
            images = self._experiment.preprocessing.evaluate(crop[None], variables["dataset_stats"])
            _, end_points = model.apply(variables, images)
            shown = []
            for name in self._end_points:
                values = end_points[name][0].astype(jnp.float32)
                if values.ndim == 1:
                    values = values[None, None]
                most = _UNITS if values.shape[:2] == (1, 1) else _CHANNELS
                shown.append(values[..., _spread(values.shape[-1], most)])
            return shown

        return jax.jit(channels, compiler_options=FAST_COMPILE)


def _copy(array: jax.Array) -> np.ndarray:
    """Copies a replicated array to the host; without a copy a CPU's memory would be given to the next step."""
    return np.array(array.addressable_data(0))


def _spread(count: int, most: int) -> np.ndarray:
    """At most `most` places of `count`, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def _small(image: np.ndarray, side: int) -> np.ndarray:
    """Shrinks an image [h, w, channels] to at most `side` pixels, by means over areas."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(scale * length)) for length in image.shape[:2])
    channels = np.moveaxis(image, -1, 0)  # one at a time, OpenCV takes at most four
    return np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_AREA) for each in channels], axis=-1)
