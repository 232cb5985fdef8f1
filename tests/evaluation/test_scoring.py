import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from inception_jax.data.decoding import DamagedImage
from inception_jax.data.loader import ProcessShard
from inception_jax.errors import UserError
from inception_jax.evaluation import scoring
from inception_jax.evaluation.protocols import NAMES, make_protocol
from inception_jax.evaluation.scoring import AGGREGATES, Scorer, Store, combine, score
from inception_jax.models import create_model
from inception_jax.parallel import DataParallel
from inception_jax.runs.classifier import Classifier
from tests import values

CLASSES = ("a", "b", "c")


class Source:
    """Images of noise, of three shapes; those whose numbers are in `damaged` cannot be decoded."""

    class_names = CLASSES

    def __init__(self, count, damaged=()):
        self._count, self._damaged, self.read = count, damaged, []

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        self.read.append(index)
        if index in self._damaged:
            raise DamagedImage(self.name(index), "cut off")
        shape = ((20, 31, 3), (27, 18, 3), (24, 24, 3))[index % 3]
        return np.random.default_rng(index).integers(0, 256, shape, np.uint8), index % 3

    def name(self, index):
        return f"noise[{index}]"

    def file_name(self, index):
        return f"{index}.png"


def classifier_of(name="tiny", size=16, variables=None, **options):
    crop_config = values.crop_config(size, size + 2)
    preprocessing = values.preprocessing(mean=(128.0,) * 3, std=(64.0,) * 3)
    options = {"name": name, **options}
    if variables is None:
        model = create_model(num_classes=len(CLASSES), **options)
        variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, size, size, 3), np.float32))
    variables = {"batch_stats": {}, "dataset_stats": {}} | jax.tree.map(np.asarray, dict(variables))
    return Classifier(name, None, options, variables, CLASSES, preprocessing, crop_config)


@functools.cache
def _weights():
    model = create_model("tiny", num_classes=len(CLASSES))
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    return jax.tree.map(lambda leaf: np.asarray(leaf) * 3, dict(variables))


@pytest.fixture
def weights():
    """Of the tiny network, large enough that its probabilities differ."""
    return _weights()


def scores_of(tmp_path, classifier, protocol, source=None, *, devices=4, batch_size=64, processes=1, outputs=None):
    source = source or Source(7)
    outputs = np.arange(len(CLASSES)) if outputs is None else outputs
    scorer = Scorer(classifier, DataParallel(devices=jax.devices()[:devices]), batch_size, outputs)
    store = Store(tmp_path, {"name": protocol.name}, len(source), protocol.windows)
    for process in range(processes):
        shard = ProcessShard(process, processes)
        score(source, scorer, protocol, store, shard=shard, threads=2)
    return store


def windows_of(protocol, image):
    """All windows in the order of the protocol."""
    for pixels, corners in protocol.canvases(image):
        for top, left in [(None, None)] if corners is None else corners:
            window = pixels if top is None else pixels[top : top + protocol.size, left : left + protocol.size]
            yield window
            if protocol.mirrors:
                yield window[:, ::-1]


def by_hand(apply, protocol, image):
    """Logits [windows, K], window by window."""
    return np.concatenate([apply((np.float32(window) - 128)[None] / 64) for window in windows_of(protocol, image)])


def softmax(logits):
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_means_over_the_windows(tmp_path, weights, name):
    classifier, source = classifier_of(variables=weights), Source(7)
    protocol = make_protocol(name, classifier.crop_config)
    store = scores_of(tmp_path, classifier, protocol, source)
    assert store.read("labels").tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert store.read("names").tolist() == [f"{i}.png" for i in range(7)]
    apply = jax.jit(lambda x: classifier.model.apply(classifier.variables, x)[0])
    for index in (0, 1, 2, 6):
        logits = by_hand(apply, protocol, source[index][0])
        assert len(logits) == protocol.windows
        assert len(np.unique(logits, axis=0)) > protocol.windows // 4  # the windows do differ
        np.testing.assert_allclose(store.read("mean_logit")[index], logits.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(store.read("mean_probability")[index], softmax(logits).mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(store.read("largest_probability")[index], softmax(logits).max(axis=0), atol=1e-6)


def test_every_image_counts_once_however_the_work_is_divided(tmp_path, weights, monkeypatch):
    classifier = classifier_of(variables=weights)
    protocol = make_protocol("10crop", classifier.crop_config)
    expected = scores_of(tmp_path / "plain", classifier, protocol)
    for place, (devices, batch_size, processes, windows_of_a_chunk) in enumerate(
        [(1, 7, 1, 20), (2, 64, 2, 20), (4, 5, 3, 10), (3, 1000, 1, 50)]
    ):
        monkeypatch.setattr(scoring, "_WINDOWS_OF_A_CHUNK", windows_of_a_chunk)
        source = Source(7)
        work = {"devices": devices, "batch_size": batch_size, "processes": processes}
        store = scores_of(tmp_path / str(place), classifier, protocol, source, **work)
        assert sorted(source.read) == list(range(7)), work
        assert store.read("names").tolist() == expected.read("names").tolist()
        np.testing.assert_array_equal(store.read("labels"), expected.read("labels"))
        for field in AGGREGATES.values():
            np.testing.assert_allclose(store.read(field), expected.read(field), rtol=1e-6, atol=1e-6, err_msg=str(work))


def test_a_stopped_evaluation_resumes(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(scoring, "_WINDOWS_OF_A_CHUNK", 20)  # 2 images
    classifier = classifier_of(variables=weights)
    protocol = make_protocol("10crop", classifier.crop_config)
    whole = scores_of(tmp_path / "whole", classifier, protocol)

    def stop(images):
        raise KeyboardInterrupt

    source = Source(7)
    scorer = Scorer(classifier, DataParallel(), 64, np.arange(3))
    store = Store(tmp_path / "stopped", {"name": "x"}, 7, protocol.windows)
    with pytest.raises(KeyboardInterrupt):
        score(source, scorer, protocol, store, threads=1, advance=stop)
    assert store.missing() == [range(2, 4), range(4, 6), range(6, 7)]
    kept = (store.path / "00000000.npz").stat().st_mtime_ns
    (store.path / "00000004.npz").write_bytes(b"")  # as a full disk leaves it
    source.read.clear()
    score(source, scorer, protocol, store, threads=1)
    assert sorted(source.read) == [2, 3, 4, 5, 6]
    assert (store.path / "00000000.npz").stat().st_mtime_ns == kept
    assert store.missing() == []
    for field in dataclasses.fields(scoring.Scores):
        np.testing.assert_array_equal(store.read(field.name), whole.read(field.name))


def test_a_damaged_chunk_is_missing(tmp_path, weights):
    classifier = classifier_of(variables=weights)
    store = scores_of(tmp_path, classifier, make_protocol("single", classifier.crop_config))
    assert store.missing() == []
    file = store.path / "00000000.npz"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert store.missing() == [range(7)]


def test_other_scores_are_kept_elsewhere(tmp_path):
    paths = {Store(tmp_path, {"name": "x", "weights": weights}, 7, 1).path for weights in ("a", "b", "a")}
    assert len(paths) == 2


def test_a_damaged_image_counts_nowhere(tmp_path, weights):
    classifier = classifier_of(variables=weights)
    protocol = make_protocol("10crop", classifier.crop_config)
    store = scores_of(tmp_path, classifier, protocol, Source(101, damaged=(5,)))
    labels = store.read("labels")
    assert np.flatnonzero(labels < 0).tolist() == [5]
    assert {place: line for place, line in enumerate(store.read("damaged")) if line} == {5: "noise[5]: cut off"}
    good = scores_of(tmp_path / "good", classifier, protocol, Source(101))
    assert set(good.read("damaged")) == {""}
    rest = np.arange(101) != 5
    np.testing.assert_allclose(store.read("mean_logit")[rest], good.read("mean_logit")[rest], atol=1e-6)


def test_too_many_damaged_images_are_an_error(tmp_path, weights):
    classifier = classifier_of(variables=weights)
    with pytest.raises(UserError, match="2 of 150 images could not be decoded, which is more than 1 %"):
        scores_of(tmp_path, classifier, make_protocol("single", classifier.crop_config), Source(150, damaged=(5, 6)))


def test_outputs_are_those_of_the_classes(tmp_path, weights):
    classifier = classifier_of(variables=weights)
    protocol = make_protocol("single", classifier.crop_config)
    plain = scores_of(tmp_path / "plain", classifier, protocol).read("mean_logit")
    store = scores_of(tmp_path / "two", classifier, protocol, outputs=np.array([2, 0]))
    np.testing.assert_array_equal(store.read("mean_logit"), plain[:, [2, 0]])
    np.testing.assert_allclose(store.read("mean_probability"), softmax(plain[:, [2, 0]]), atol=1e-6)


# GoogLeNet, section 7: "averaged over multiple crops and over all the individual classifiers".
def test_an_ensemble_is_the_mean_of_its_members():
    one, two = np.array([[0.5, 0.25, 0.25]], np.float32), np.array([[0.0, 0.5, 0.5]], np.float32)
    np.testing.assert_array_equal(combine([one, two], "probabilities"), [[0.25, 0.375, 0.375]])
    np.testing.assert_array_equal(combine([one, two], "max"), np.float32([[0.5, 0.5, 0.5]]) / np.float32(1.5))
    logits = [np.log([[1, 4, 1]]).astype(np.float32), np.log([[1, 1, 1]]).astype(np.float32)]
    np.testing.assert_allclose(combine(logits, "logits"), [[0.25, 0.5, 0.25]], rtol=1e-6)  # of the geometric means


def test_an_ensemble_of_one_is_the_network_itself():
    values = np.random.default_rng(0).dirichlet(np.ones(10), 50).astype(np.float32)
    np.testing.assert_array_equal(combine([values], "probabilities"), values)
    for aggregate, order in itertools.product(AGGREGATES, itertools.permutations([values, values[::-1], values[::2]])):
        members = [np.resize(member, values.shape) for member in order]
        np.testing.assert_array_equal(combine(members, aggregate), combine(members[::-1], aggregate))


# Very Deep Convolutional Networks, section 3.2: the first dense layer becomes a convolution of 7 x 7 cells, the others
# of one, and the class score map is averaged over its places.
def test_dense_evaluation_of_vgg_slides_its_classifier(tmp_path):
    classifier = classifier_of("vgg_a", size=64, width=0.05)
    source = Source(3)
    protocol = make_protocol("dense", classifier.crop_config, (96,))
    store = scores_of(tmp_path, classifier, protocol, source, devices=1, batch_size=2)
    params = classifier.variables["params"]

    def dense(x, layer):
        [part] = params[layer].values()
        return x @ part["kernel"].reshape(-1, part["kernel"].shape[-1]) + part["bias"]

    grids = jax.jit(lambda x: classifier.dense_model.apply(classifier.variables, x)[1]["pool5"])
    for index in range(3):
        maps = []
        for window in windows_of(protocol, source[index][0]):
            pool5 = np.asarray(grids((np.float32(window) - 128)[None] / 64))[0]
            assert min(pool5.shape[:2]) == 3
            places = itertools.product(range(pool5.shape[0] - 1), range(pool5.shape[1] - 1))
            scores = []
            for top, left in places:
                hidden = pool5[top : top + 2, left : left + 2].reshape(-1)
                for layer in ("fc6", "fc7"):
                    hidden = np.maximum(dense(hidden, layer), 0)
                scores.append(dense(hidden, "fc8"))
            maps.append(np.mean(scores, axis=0))
        expected = np.mean(maps, axis=0)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(
            store.read("mean_logit")[index], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
        )


def test_a_network_of_fixed_size_is_not_dense(tmp_path):
    classifier = classifier_of("lenet5", size=32)
    with pytest.raises(UserError, match="protocol='dense' does not work with lenet5"):
        scores_of(tmp_path, classifier, make_protocol("dense", classifier.crop_config))
