import dataclasses

import numpy as np
import pytest
from PIL import Image

import inception_jax
from inception_jax import explain
from inception_jax.data.boxes import BoxedSource, iou
from inception_jax.data.loader import DamageReport
from inception_jax.data.sources import FolderSource
from inception_jax.errors import UserError
from inception_jax.localization import localise, summarise
from inception_jax.localization.heat_boxes import all_boxes, largest_box
from inception_jax.localization.localise import smooth


@pytest.fixture(scope="module")
def classifier(trained):
    return inception_jax.load(trained)


@pytest.fixture
def source(image_folder, tmp_path):
    """21 images of three classes, of which the left half is the object."""
    file = tmp_path / "boxes.csv"
    labels = [(label, i) for label in ("blue", "green", "red") for i in range(7)]
    file.write_text("".join(f"val/{label}/{i}.png,0,0,11,{19 + i % 3}\n" for label, i in labels), encoding="utf-8")
    return BoxedSource(FolderSource(str(image_folder), "val"), file)


def test_what_each_method_of_its_own_finds_put_together(classifier, source):
    """The boxes of each class from the public calls, one image at a time."""
    explainer = explain.make_explainer(classifier, "gradcam")
    found = list(localise(classifier, source, "gradcam", threshold=0.5, batch_size=4, positions=[20, 3, 4, 5, 9]))
    assert [one.position for one in found] == [20, 3, 4, 5, 9]
    assert [one.name for one in found] == [source.name(i) for i in (20, 3, 4, 5, 9)]
    for one in found:
        image, label = source[one.position]
        assert one.judged.label == label
        [probabilities] = classifier.predict(image)
        assert one.judged.classes.tolist() == np.argsort(-probabilities).tolist()
        for name, box in (*zip(one.judged.classes, one.judged.boxes, strict=True), (label, one.judged.known)):
            [heat] = explainer(classifier.crop(image)[None], [int(name)])
            # 18 pixels are resized to the shorter side, of which 16 are the crop.
            left, top = round((18 * 24 // image.shape[0] - 16) / 2), 1
            x, y = 24 / (18 * 24 // image.shape[0]), image.shape[0] / 18
            xmin, ymin, xmax, ymax = largest_box(heat.heat, 0.5)
            expected = [(xmin + left) * x, (ymin + top) * y, (xmax + 1 + left) * x - 1, (ymax + 1 + top) * y - 1]
            np.testing.assert_allclose(box, expected)
        np.testing.assert_array_equal(one.judged.truth, [[0, 0, 11, image.shape[0] - 1]])
        overlap = iou(one.judged.known, one.judged.truth[0])
        assert one.judged.largest[50] == overlap
        # Any contour, of the map from its minimum on.
        heat = one.explanation.heat - one.explanation.heat.min()
        contours = classifier.crop_config.boxes_in_image(all_boxes(heat, 0.5), image.shape)
        assert one.judged.contours[50] == iou(contours, one.judged.truth[0]).max()
        assert one.judged.contours.shape == (100,)


def test_batches_and_classes_without_a_box_change_nothing(classifier, source):
    several, single = (
        list(localise(classifier, source, "cam", batch_size=size, top=top)) for size, top in ((8, 5), (21, 0))
    )
    assert len(several) == len(single) == 21
    for a, b in zip(several, single, strict=True):
        np.testing.assert_allclose(a.judged.known, b.judged.known)
        np.testing.assert_array_equal(a.judged.classes, b.judged.classes)
        assert (a.judged.boxes.shape, b.judged.boxes.shape) == ((3, 4), (0, 4))
    a, b = (summarise([one.judged for one in each]) for each in (several, single))
    assert (a.top1_class_error, a.known, a.max_box_acc) == (b.top1_class_error, b.known, b.max_box_acc)
    assert b.top5_error == 1


def test_heat_of_pixels_is_blurred_and_that_of_a_grid_is_not(classifier):
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    [pixels], [grid] = (explain.attribute(classifier, image, method) for method in ("gradient", "gradcam"))
    np.testing.assert_array_equal(smooth(grid), grid.heat)
    assert smooth(pixels).sum() == pytest.approx(pixels.heat.sum(), rel=0.05)
    assert smooth(pixels).std() < 0.9 * pixels.heat.std()
    assert smooth(dataclasses.replace(pixels, heat=np.ones((16, 16), np.float32))) == pytest.approx(1)


def test_images_on_the_blacklist_need_no_boxes(classifier, image_folder, tmp_path):
    (tmp_path / "boxes.csv").write_text("val/blue/0,0,0,9,9\n", encoding="utf-8")
    source = BoxedSource(FolderSource(str(image_folder), "val"), tmp_path / "boxes.csv")
    with pytest.raises(UserError, match=r"no box of class 'blue' in val/blue/1.png"):
        list(localise(classifier, source))
    blacklist = np.arange(21) > 0
    images = [one.judged for one in localise(classifier, source, blacklist=blacklist)]
    assert [image.counts for image in images] == [True] + [False] * 20
    assert (summarise(images).images, summarise(images).counted) == (21, 1)


def test_damaged_images_are_left_out_or_an_error(classifier, tmp_path):
    for name in ("a/0.png", "b/0.png", "c/0.png"):
        (tmp_path / "val" / name).parent.mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "val" / name)
    (tmp_path / "val" / "a" / "1.png").write_bytes(b"no image")
    (tmp_path / "boxes.csv").write_text("".join(f"val/{c}/0,0,0,9,9\n" for c in "abc"), encoding="utf-8")
    source = BoxedSource(FolderSource(str(tmp_path), "val"), tmp_path / "boxes.csv")
    source.class_names = source._source.class_names = classifier.class_names
    damage = DamageReport(source, stops=False)
    assert [one.position for one in localise(classifier, source, damage=damage)] == [0, 2, 3]
    assert len(damage) == 1
    with pytest.raises(UserError, match=r"val/a/1.png: not an image"):
        list(localise(classifier, source))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.0}, "threshold=1.0 must be from 0 to below 1"),
        ({"threshold": float("nan")}, "threshold=nan must be"),
        ({"batch_size": 0}, "batch_size=0 must be"),
        ({"method": "cam", "layer": "stem"}, "."),
        ({"method": "heat"}, "method='heat' is not one of"),
    ],
)
def test_arguments_that_cannot_be(classifier, source, arguments, message):
    with pytest.raises(UserError, match=message):
        next(localise(classifier, source, **arguments))
