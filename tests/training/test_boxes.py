"""Training of networks that predict boxes, through the same loop as that of classes."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import inception_jax
from configs import vgg_localize
from experiments import localize
from inception_jax import UserError, create_model
from inception_jax.data.boxes import iou
from inception_jax.data.glyph_images import CLASSES
from inception_jax.data.loader import read_ahead, read_image
from inception_jax.data.sources import open_source
from inception_jax.localization import localise_by_regression, summarise
from inception_jax.parallel import REPLICATED, SPLIT, DataParallel
from inception_jax.report.training import write_report
from inception_jax.runs.classifier import Classifier, load_network
from inception_jax.training.experiment import Experiment
from inception_jax.training.loop import train_and_evaluate
from tests import values

DATA = "glyphs/size=32,train=512,test=128,difficulty=4,classes=4"


@pytest.fixture(scope="session")
def glyphs(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("glyphs"))
    open_source(DATA, "train", directory)
    return directory


def config_of(directory, **model):
    """The recipe's small VGG with half of its filters, six steps of 32."""
    config = vgg_localize.get_config("glyphs")
    config.model.update(width=0.0625, **model)
    config.data.update(name=DATA, dir=directory, image_size=32, resize=32, scale=(32, 36), threads=2)
    config.train.update(batch_size=32, epochs=0.0, steps=6, ema_decay=0.0)
    config.schedule.warmup = "2 steps"
    config.eval.update(every="3 steps", batch_size=64)
    config.checkpoint.update(every="2 steps", keep=9)
    config.log.update(every="2 steps", tensorboard=False, report=False)
    config.fast_compile = True
    return config


def gradients_step(config, devices):
    """The parameters after one step on the first batch, and its metrics."""
    parallel = DataParallel(devices=jax.devices()[:devices])
    experiment = Experiment(config, parallel)
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.5, (16, 2))
    batch = {
        "image": rng.integers(0, 256, (16, 32, 32, 3), np.uint8),
        "label": rng.integers(0, 4, 16).astype(np.int32),
        "index": np.arange(16, dtype=np.uint32),
        "seed": np.full(16, 7, np.uint32),
        "box": np.concatenate([low, low + rng.uniform(0.1, 0.5, (16, 2))], axis=1).astype(np.float32),
    }
    batch["box"][[1, 2, 3, 12]] = 0  # lost, most of them in the first half
    step = parallel.map(experiment.train_step(), (REPLICATED, SPLIT), (REPLICATED, REPLICATED))
    state, metrics = step(parallel.replicate(experiment.create_state()), parallel.shard(batch))
    return jax.device_get((state.params, metrics))


def test_however_a_batch_is_split_the_step_is_the_same(glyphs):
    config = config_of(glyphs, name="vgg_a", init="glorot", boxes="per_class")
    del config.model.batch_norm_decay
    config.data.flip = True
    config.train.batch_size = 16
    config.optimizer.update(name="sgd", weight_decay=0.0)
    params, metrics = gradients_step(config, 1)
    assert metrics["box_lost"] == 4 / 16
    config.train.microbatch = 2
    others = gradients_step(config, 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), (params, metrics), others)


@pytest.fixture(scope="module")
def run(glyphs, tmp_path_factory):
    """A run of six steps: the state and the workdir."""
    workdir = tmp_path_factory.mktemp("boxes") / "run"
    return jax.device_get(train_and_evaluate(config_of(glyphs), str(workdir))), workdir


def test_a_resumed_run_ends_bitwise_the_same(run, glyphs, tmp_path):
    config = config_of(glyphs)
    state, workdir = run
    for step in (4, 6):
        target = tmp_path / str(step)
        shutil.copytree(workdir, target)
        for later in (target / "checkpoints").iterdir():
            if int(later.name) >= step:
                shutil.rmtree(later)
        again = jax.device_get(train_and_evaluate(config, str(target)))
        jax.tree.map(np.testing.assert_array_equal, again.params, state.params)
        for name in ("results.json", "metrics.jsonl"):
            ours, theirs = ((each / name).read_text(encoding="utf-8").splitlines() for each in (target, workdir))
            assert [timeless(line) for line in ours] == [timeless(line) for line in theirs]


def timeless(line):
    try:
        row = json.loads(line)
    except ValueError:
        return line
    if not isinstance(row, dict):
        return line
    return {key: row[key] for key in row if key not in ("images_per_second", "data_wait", "peak_memory")}


def test_results_are_those_of_the_boxes(run, glyphs):
    """Accuracy, counted again from the predictions and the boxes in pixels."""
    _, workdir = run
    results = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    assert results["last"].keys() == {"step", "loss", "box_accuracy", "count"}
    with np.load(workdir / "predictions.npz") as predictions:
        boxes = predictions["boxes"]
    source, crops = open_source(DATA, "test", glyphs), load_network(workdir).crop_config
    found = [crops.boxes_in_image(box * 32 - (0, 0, 1, 1), (32, 32)) for box in boxes]
    fits = [iou(source.boxes(i), box).max() >= 0.5 for i, box in enumerate(found)]
    assert np.mean(fits) == results["last"]["box_accuracy"]
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"loss", "box_accuracy", "box_lost", "grad_norm"} <= rows[0].keys()
    assert "top1" not in rows[0]


def test_only_boxes_come_of_it(run):
    _, workdir = run
    with pytest.raises(UserError, match=r"run is a network that predicts boxes, and names no classes"):
        inception_jax.load(workdir)
    page = write_report(workdir).read_text(encoding="utf-8")
    assert "Box accuracy" in page
    assert page.count("IoU 0.") >= 32
    assert "Left out" not in page
    assert "Confusion" not in page


@pytest.fixture(scope="module")
def classifier():
    """An untrained network of the same four classes, for smaller crops."""
    options = {"name": "vgg_a", "width": 0.02}
    return Classifier(
        name="vgg_a",
        source=Path("untrained"),
        options=options,
        variables=dict(create_model(num_classes=4, **options).init(jax.random.key(1), np.zeros((1, 32, 32, 3))))
        | {"dataset_stats": {}, "batch_stats": {}},
        class_names=tuple(CLASSES[:4]),
        preprocessing=values.preprocessing(mean=(127.5,) * 3),
        crop_config=values.crop_config(32, 40),
    )


def test_localisation_takes_its_boxes(run, glyphs, classifier):
    _, workdir = run
    source, regressor = open_source(DATA, "test", glyphs), load_network(workdir, "last")
    assert source.class_names == classifier.class_names
    images = [one.judged for one in localise_by_regression(classifier, regressor, source, batch_size=50)]
    results = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    assert summarise(images).known == results["last"]["box_accuracy"]
    for i in (3, 127):
        image, label = source[i]
        [boxes] = regressor.features(image, "fc8")
        centres, sides = boxes[:, :2], np.maximum(boxes[:, 2:], 0)
        edges = 32 * np.clip(np.concatenate([centres - sides / 2, centres + sides / 2], axis=1), 0, 1) - (0, 0, 1, 1)
        assert images[i].label == label
        np.testing.assert_array_equal(images[i].classes, np.argsort(-classifier.predict(image)[0], kind="stable"))
        np.testing.assert_allclose(images[i].boxes, edges[images[i].classes], atol=1e-4)
        np.testing.assert_allclose(images[i].known, edges[label], atol=1e-4)
    with pytest.raises(UserError, match="untrained is a network that names classes, and predicts no boxes"):
        next(localise_by_regression(classifier, classifier, source))


def test_the_command_takes_its_boxes(run, glyphs, classifier, tmp_path, capsys):
    _, workdir = run
    classifier.save(tmp_path / "classes.npz")
    data = [f"--data={DATA}", "--split=test", f"--data-dir={glyphs}", "--limit=20"]
    arguments = [f"--workdir={tmp_path / 'classes.npz'}", f"--boxes-from={workdir}", *data]
    assert localize.main([*arguments, f"--json={tmp_path / 'out.json'}", f"--out={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert record["method"].startswith("boxes of run/")
    assert f"{100 * record['known']:.2f} %" in said
    assert "threshold" not in said
    assert (tmp_path / "out" / "contact_sheet.png").exists()
    assert localize.main([*arguments, f"--out={tmp_path}", "--npz"]) == 2
    assert "--npz is of heat maps, which --boxes-from does not have" in capsys.readouterr().err


def test_a_network_learns_where_characters_are(glyphs, tmp_path):
    config = config_of(glyphs, boxes="single")
    config.train.steps = 240
    config.eval.every = config.checkpoint.every = "240 steps"
    config.log.every = "80 steps"
    config.fast_compile = False
    train_and_evaluate(config, str(tmp_path))
    accuracy = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["last"]["box_accuracy"]
    sources = (open_source(DATA, split, glyphs) for split in ("train", "test"))
    train, test = (np.concatenate([source.boxes(i) for i in range(len(source))]) for source in sources)
    mean_box = (iou(train.mean(axis=0), test) >= 0.5).mean()
    assert mean_box < 0.2
    assert accuracy > mean_box + 0.3


WRONG = [
    (lambda c: setattr(c.data, "shift", 2), "config.data.shift=2 would move or mix images without their boxes"),
    (lambda c: setattr(c.data, "cache", "device"), "config.data.cache='device' has no boxes for config.train.loss"),
    (lambda c: setattr(c.data, "cutmix", 1.0), "config.data.cutmix=1.0 would move or mix images"),
    (lambda c: setattr(c.train, "label_smoothing", 0.1), "config.train.label_smoothing=0.1 is of labels, not of boxes"),
    (
        lambda c: setattr(c.model, "boxes", "none"),
        "config.train.loss='euclidean' does not fit the network, which",
    ),
    (
        lambda c: setattr(c.train, "loss", "softmax"),
        "config.train.loss='softmax' does not fit the network, which",
    ),
    (lambda c: setattr(c.data, "name", "synthetic"), "dataset 'synthetic' has no boxes"),
    (lambda c: setattr(c.data, "name", "folder"), "config.data.boxes must name the images' boxes: a CSV file or a dir"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_cannot_be_trained_is_said(change, message, glyphs):
    config = config_of(glyphs)
    change(config)
    with pytest.raises(UserError) as error:
        Experiment(config, DataParallel())
    assert str(error.value).startswith(message)


def test_only_images_with_boxes_are_trained_on(image_folder, tmp_path):
    file = tmp_path / "boxes.csv"
    names = [f"{split}/{colour}/{i}.png" for split in ("train", "val") for colour in ("red", "blue") for i in range(5)]
    file.write_text("".join(f"{name},1,2,10,12\n" for name in names), encoding="utf-8")
    config = config_of("")
    config.data.update(name="folder", dir=str(image_folder), eval_split="val", boxes=str(file))
    experiment = Experiment(config, DataParallel())
    assert [len(experiment.train_source), len(experiment.eval_source)] == [10, 10]
    assert experiment.class_names == ("blue", "green", "red")
    np.testing.assert_array_equal(experiment.train_source.boxes(9), [[1, 2, 10, 12]])
    assert experiment.train_source.encoded(9)[1] == experiment.train_source.label(9) == 2
    config.data.cache = "memory"
    for source in (experiment.train_source, Experiment(config, DataParallel()).train_source):
        ahead = read_ahead(source, [9, 0])
        np.testing.assert_array_equal(ahead.boxes(9), [[1, 2, 10, 12]])
        assert read_image(ahead, 9, 2**20)[0].shape == experiment.train_source[9][0].shape
    config.data.cache = "none"
    config.train.loss = "softmax"
    with pytest.raises(UserError, match=r"config.data.boxes='.*boxes.csv' is for config.train.loss='euclidean'"):
        Experiment(config, DataParallel())


def test_the_network_is_net_d_but_for_its_last_layer():
    boxes, classes = create_model("vgg_d", 1000, boxes="per_class"), create_model("vgg_d", 1000)
    assert boxes.layers[:-1] == classes.layers[:-1]
    assert (boxes.boxes, classes.boxes, create_model("vgg_d", 1000, boxes="single").boxes) == (1000, 0, 1)
    small = create_model("vgg_a", 5, width=0.05, boxes="per_class")
    outputs, end_points = jax.eval_shape(
        lambda key: small.init_with_output(key, np.zeros((2, 32, 32, 3), np.float32))[0], jax.random.key(0)
    )
    assert outputs.shape == end_points["fc8"].shape == (2, 5, 4)
    assert inception_jax.summary("vgg_d", boxes="single").parameters == 138_357_544 - 4097 * 1000 + 4097 * 4
