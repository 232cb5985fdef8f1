"""Evaluation of JPEG files by the papers' protocols beside plain inference, for the same number of forward passes."""

import contextlib
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from experiments.benchmark import contest
from experiments.benchmark.contest import Side
from experiments.benchmark.loader import write_photos

PROTOCOLS = ("single", "10crop", "144crop", "multicrop")
PASSES = 384  # forward passes in a turn, about


def measure(network: str, batch: int, dtype: str, repeats: int) -> Iterator[dict]:
    """Yields a row for plain inference and for each protocol."""
    with tempfile.TemporaryDirectory() as root:
        write_photos(Path(root, "photos"), PASSES)
        with contextlib.closing(Side(evaluation, network, batch, dtype, root)) as side:
            passes = side.metadata()
            seconds = contest.take_turns({"ours": side}, list(passes), repeats)
        each = {name: [second / passes[name] for second in seconds["ours", name]] for name in passes}
        for name in passes:
            yield {
                "network": network,
                "what": name,
                "dtype": dtype,
                "batch": batch,
                "passes_per_second": 1 / statistics.median(each[name]),
                "fraction_of_plain": statistics.median(
                    plain / own for plain, own in zip(each["plain inference"], each[name], strict=True)
                ),
                "repeats": repeats,
            }


def evaluation(network: str, batch: int, dtype: str, root: str) -> dict[str, Callable]:
    """Builds plain inference on a batch in memory, and for each protocol what `experiments.evaluate` does."""
    jax = contest.start_jax(dtype)
    from inception_jax import create_model
    from inception_jax.data.augment import Preprocessing
    from inception_jax.data.crops import CropConfig
    from inception_jax.data.sources import Subset, open_source
    from inception_jax.evaluation.protocols import make_protocol
    from inception_jax.evaluation.scoring import Scorer, Store, score
    from inception_jax.parallel import DataParallel
    from inception_jax.runs.classifier import Classifier

    size = create_model(network).input_shape[0]
    source = open_source("folder", "train", str(Path(root, "photos")))
    augmentation = dict(channels=3, randaugment=0, randaugment_magnitude=0.0, photometric="none")
    augmentation |= dict(photometric_strength=0.0, pca_noise=0.0, whitening="none", shift=0, mixup=0.0, cutmix=0.0)
    training_crop = dict(crop="central", area=(1, 1), aspect=(1, 1), scale=(size, size), interpolation="bilinear")
    classifier = Classifier(
        name=network,
        source=Path(root),
        options={"name": network, "dtype": dtype},
        variables={},
        class_names=tuple(map(str, range(1000))),
        preprocessing=Preprocessing(mean=(127.5,) * 3, std=(127.5,) * 3, flip=False, **augmentation),
        crop_config=CropConfig(size=size, resize=size * 8 // 7, max_pixels=2**26, **training_crop),
    )
    noise = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    variables = jax.jit(classifier.model.init)(jax.random.key(0), noise[:1].astype(np.float32))
    classifier.variables.update({"batch_stats": {}, "dataset_stats": {}} | dict(variables))
    scorer = Scorer(classifier, DataParallel(), batch, np.arange(1000))
    windows = jax.device_put(noise)
    batches = -(-PASSES // batch)

    def plain():
        for _ in range(batches):
            logits = classifier.run(windows, classifier.end_points[-1])
        jax.block_until_ready(logits)

    calls, passes, numbers = {"plain inference": plain}, {"plain inference": batches * batch}, itertools.count()
    for name in PROTOCOLS:
        protocol = make_protocol(name, classifier.crop_config)
        # As many images as fill all batches, as in a long evaluation.
        at_once = scorer.images(protocol)
        count = max(1, round(PASSES / protocol.windows / at_once)) * at_once
        images = source if count == len(source) else Subset(source, range(count))

        def evaluate(protocol=protocol, images=images):
            with tempfile.TemporaryDirectory() as directory:
                store = Store(Path(directory), {"name": str(next(numbers))}, len(images), protocol.windows)
                score(images, scorer, protocol, store)
                assert np.isfinite(store.read("mean_probability")).all()

        calls[name], passes[name] = evaluate, len(images) * protocol.windows
    return calls | {"metadata": lambda: passes}
