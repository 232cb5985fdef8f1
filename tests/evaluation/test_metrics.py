import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.data import loader
from inception_jax.data.decoding import DamagedImage
from inception_jax.evaluation.metrics import evaluate, label_rank, make_eval_step
from inception_jax.parallel import AXIS, REPLICATED, SPLIT, DataParallel
from tests.values import crop_config, preprocessing

PLAIN, CROP = preprocessing(), crop_config(4)


VARIABLES = {"scale": np.float32(1), "dataset_stats": {}}


class Pixels:
    """A model whose six logits are stored in the image: `apply` reads them off the first pixels."""

    def apply(self, variables, images, train, mutable):
        return (images[:, :2, :, 0].reshape(images.shape[0], -1)[:, :6] * variables["scale"], {}), {}


class Stored:
    """A source of images which hold the given logits."""

    class_names = tuple("abcdef")

    def __init__(self, logits, labels, damaged=()):
        self.logits, self.labels, self.damaged = logits, labels, damaged

    def __len__(self):
        return len(self.labels)

    def name(self, index):
        return f"stored[{index}]"

    def __getitem__(self, index):
        if index in self.damaged:
            raise DamagedImage(self.name(index), "torn")
        image = np.zeros((4, 4, 3), np.uint8)
        image[:2] = np.resize(self.logits[index], (2, 4, 1))
        return image, self.labels[index]


LOGITS = np.array(
    [
        [9, 1, 2, 3, 4, 5],
        [5, 4, 3, 2, 1, 9],
        [7, 7, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 2, 3, 4, 5, 6],
    ]
)
LABELS = [0, 0, 1, 5, 0]
# Ranks by hand: 0 (first); 1; 1 (a tie, the lower index wins); 5 (all tie); 5. So 1 of 5 in the first, 3 in five.


def test_label_rank_with_ties():
    ranks = label_rank(jnp.array(LOGITS, jnp.float32), jnp.array(LABELS))
    np.testing.assert_array_equal(ranks, [0, 1, 1, 5, 5])


def test_a_label_that_is_not_a_number_is_never_right():
    logits = jnp.array([[1.0, jnp.nan, 0.0]])
    assert label_rank(logits, jnp.array([1]))[0] == 3


def run(source, batch_size, devices, kind="shard_map"):
    parallel = DataParallel(kind, jax.devices()[:devices])
    damage = loader.DamageReport(source)
    step = parallel.map(make_eval_step(Pixels(), PLAIN, AXIS), (REPLICATED, SPLIT), (REPLICATED, SPLIT))
    shard = loader.ProcessShard()
    batches = loader.eval_batches(source, CROP, damage, batch_size=batch_size, shard=shard, threads=2)
    pairs = ((batch.pop("position"), parallel.shard(batch)) for batch in batches)
    return evaluate(step, parallel.replicate(VARIABLES), pairs, expected=len(source))


@pytest.mark.parametrize(("batch_size", "devices"), [(1, 1), (5, 1), (7, 1), (2, 2), (4, 4), (8, 4), (12, 2)])
def test_each_example_counts_once(batch_size, devices):
    result = run(Stored(LOGITS, LABELS), batch_size, devices)
    assert (result.count, result.top1, result.top5) == (5, 1 / 5, 3 / 5)
    losses = [np.log(np.exp(row - row[label]).sum()) for row, label in zip(LOGITS * 1.0, LABELS, strict=True)]
    np.testing.assert_allclose(result.loss, np.mean(losses), rtol=1e-5)
    expected = np.zeros((6, 6), int)
    for label, predicted in zip(LABELS, (0, 5, 0, 0, 5), strict=True):
        expected[label, predicted] += 1
    np.testing.assert_array_equal(result.confusion, expected)
    np.testing.assert_array_equal(result.labels, LABELS)
    np.testing.assert_array_equal(result.classes, np.argsort(-LOGITS, axis=1, kind="stable")[:, :5])
    np.testing.assert_allclose(result.probabilities[3], np.full(5, 1 / 6), rtol=1e-6)


def test_pmap_counts_the_same():
    ours, theirs = (run(Stored(LOGITS, LABELS), 8, 4, kind) for kind in ("shard_map", "pmap"))
    assert ours.summary() == theirs.summary()
    np.testing.assert_array_equal(ours.classes, theirs.classes)
    np.testing.assert_array_equal(ours.confusion, theirs.confusion)


def test_damaged_images_are_left_out():
    # 1 of 100: no more than 1 %.
    source = Stored(np.resize(LOGITS, (100, 6)), LABELS * 20, damaged=(1,))
    result = run(source, 8, 4)
    # Example 1 was wrong and among the first five.
    assert (result.count, result.top1, result.top5) == (99, 20 / 99, 59 / 99)
    np.testing.assert_array_equal(result.classes[1], -1)
    assert result.labels[1] == -1


def test_a_wrong_count_is_a_defect():
    source = Stored(LOGITS, LABELS)
    parallel = DataParallel(devices=jax.devices()[:1])
    step = parallel.map(make_eval_step(Pixels(), PLAIN, AXIS), (REPLICATED, SPLIT), (REPLICATED, SPLIT))
    shard, damage = loader.ProcessShard(), loader.DamageReport(source)
    batches = loader.eval_batches(source, CROP, damage, batch_size=2, shard=shard, threads=1)
    pairs = [(batch.pop("position"), parallel.shard(batch)) for batch in batches]
    with pytest.raises(RuntimeError, match="counted 4 images instead of 5"):
        evaluate(step, parallel.replicate(VARIABLES), pairs[:2], expected=5)
