import collections
import io
import itertools
import re
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from inception_jax.data.decoding import DamagedImage, PlainJpeg, decode_image, open_image
from inception_jax.errors import UserError
from inception_jax.evaluation.protocols import NAMES, make_protocol
from tests.values import crop_config

SCALED = ("10crop", "12crop", "144crop", "multicrop", "dense")
LANDSCAPE, PORTRAIT, SQUARE = (37, 53), (53, 37), (41, 41)
SHAPES = (LANDSCAPE, PORTRAIT, SQUARE, (9, 14), (14, 9), (5, 5), (16, 21), (31, 160), (160, 31), (40, 41))


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def seen(protocol, image):
    """The windows as the network sees them: canvas by canvas, each followed by its mirror image."""
    windows = []
    for pixels, corners in protocol.canvases(image):
        assert pixels.dtype == np.uint8
        if corners is None:
            windows.append(pixels)
            continue
        assert corners.dtype == np.int32
        assert corners.min() >= 0
        windows += [pixels[top : top + protocol.size, left : left + protocol.size] for top, left in corners]
    return with_mirrors(windows) if protocol.mirrors else windows


def with_mirrors(windows):
    return [one for window in windows for one in (window, window[:, ::-1])]


def resized(image, height, width):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def with_shorter_side(image, scale):
    height, width = image.shape[:2]
    if height < width:
        return resized(image, scale, int(Fraction(scale * width, height)))
    return resized(image, int(Fraction(scale * height, width)), scale)


def nearest(numerator, denominator):
    """The nearest integer, a half to the even one."""
    return round(Fraction(numerator, denominator))


def central(image, size):
    height, width = image.shape[:2]
    top, left = nearest(height - size, 2), nearest(width - size, 2)
    return image[top : top + size, left : left + size]


def corners_and_centre(image, size):
    return [
        image[:size, :size],
        image[:size, -size:],
        image[-size:, :size],
        image[-size:, -size:],
        central(image, size),
    ]


def single(image, size, resize):
    whole = with_shorter_side(image, resize)
    field = np.zeros((size, size, 3), np.uint8)
    for y in range(size):
        for x in range(size):
            row, column = (
                place + nearest(side - size, 2) if side > size else place - (size - side) // 2
                for place, side in zip((y, x), whole.shape[:2], strict=True)
            )
            if 0 <= row < whole.shape[0] and 0 <= column < whole.shape[1]:
                field[y, x] = whole[row, column]
    return [field]


# preprocessing/inception_preprocessing.py of tf-slim: the central 87.5 % of both sides, resized to a square.
def anisotropic(image, size):
    above, before = (int(Fraction(side, 16)) for side in image.shape[:2])
    return [resized(image[above : len(image) - above, before : image.shape[1] - before], size, size)]


# AlexNet, section 2: "cropped out the central 256 × 256 patch"; section 4.1: "five 224 × 224 patches (the four corner
# patches and the center patch) as well as their horizontal reflections".
def of_10(image, size, scales):
    squares = [central(with_shorter_side(image, scale), scale) for scale in scales]
    return with_mirrors([window for square in squares for window in corners_and_centre(square, size)])


# No paper says which. github.com/soeaver/caffe-model, cls/evaluation_cls.py, mirror_crop: the image becomes a square
# whatever its aspect; its corners and centre, and the square resized.
def of_12(image, size, scales):
    windows = []
    for scale in scales:
        square = resized(image, scale, scale)
        windows += [*corners_and_centre(square, size), resized(square, size, size)]
    return with_mirrors(windows)


# GoogLeNet, section 7: "the left, center and right square of these resized images (in the case of portrait images, we
# take the top, center and bottom squares). For each square, we then take the 4 corners and the center 224×224 crop as
# well as the square resized to 224×224, and their mirrored versions."
def of_144(image, size, scales):
    windows = []
    for scale in scales:
        whole = with_shorter_side(image, scale)
        if image.shape[0] > image.shape[1]:
            squares = [whole[:scale], central(whole, scale), whole[-scale:]]
        else:
            squares = [whole[:, :scale], central(whole, scale), whole[:, -scale:]]
        for square in squares:
            windows += corners_and_centre(square, size)
        windows += [resized(square, size, size) for square in squares]
    return with_mirrors(windows)


# VGG, section 3.2: "50 crops per scale (5 × 5 regular grid with 2 flips)".
def of_150(image, size, scales):
    windows = []
    for scale in scales:
        whole = with_shorter_side(image, scale)
        for row in range(5):
            for column in range(5):
                top = nearest(row * (whole.shape[0] - size), 4)
                left = nearest(column * (whole.shape[1] - size), 4)
                windows.append(whole[top : top + size, left : left + size])
    return with_mirrors(windows)


# VGG, section 3.2: "applied to the whole (uncropped) image"; its longer side in steps of a seventh of the window.
def dense(image, size, scales):
    windows = []
    for scale in scales:
        whole = with_shorter_side(image, scale)
        height = width = scale
        while height + nearest(size, 7) <= whole.shape[0]:
            height += nearest(size, 7)
        while width + nearest(size, 7) <= whole.shape[1]:
            width += nearest(size, 7)
        top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
        windows.append(whole[top : top + height, left : left + width])
    return with_mirrors(windows)


EXPECTED = {"10crop": of_10, "12crop": of_12, "144crop": of_144, "multicrop": of_150, "dense": dense}


def allowed(name, shape):
    """Levels of 255: 10crop resizes the central square alone, which is exact where that is the whole image."""
    return 1 if name == "10crop" and shape[0] != shape[1] else 0


def assert_windows(actual, expected, levels=0, about=""):
    assert [window.shape for window in actual] == [window.shape for window in expected], about
    for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert np.abs(one.astype(int) - other).max() <= levels, f"window {number} of {about}"


def test_the_single_crop_is_the_networks_own():
    for shape, (size, resize) in itertools.product(SHAPES, [(16, 19), (21, 24), (24, 24), (28, 20), (23, 16)]):
        image = picture(*shape)
        actual = seen(make_protocol("single", crop_config(size, resize)), image)
        # One resampling of the part that is kept: exact where that is the whole image, or where nothing is resized.
        exact = min(shape) == resize or (shape[0] == shape[1] and resize <= size)
        assert_windows(actual, single(image, size, resize), 0 if exact else 1, (shape, size, resize))


def test_the_anisotropic_crop_is_the_central_part_of_both_sides():
    for shape, size in itertools.product(SHAPES, [16, 21, 28]):
        image = picture(*shape)
        # Neither the network's own crop nor its training has a say.
        for own in (crop_config(size), crop_config(size, 40, crop="scale", scale=(30, 50))):
            assert_windows(
                seen(make_protocol("anisotropic", own), image), anisotropic(image, size), about=(shape, size)
            )


@pytest.mark.parametrize("name", SCALED)
def test_the_papers_windows(name):
    for size, four in (  # 8/7, 9/7, 10/7 and 11/7 of it
        (16, (18, 21, 23, 25)), (21, (24, 27, 30, 33)), (25, (29, 32, 36, 39)), (28, (32, 36, 40, 44))
    ):  # fmt: skip
        step = nearest(size, 7)
        three = (four[0] - step, four[0], four[0] + step)
        scales = {"10crop": four[:1], "12crop": four[:1], "144crop": four, "multicrop": three, "dense": three}[name]
        for shape in SHAPES:
            image = picture(*shape)
            actual = seen(make_protocol(name, crop_config(size)), image)
            assert_windows(actual, EXPECTED[name](image, size, scales), allowed(name, shape), (shape, size))


@pytest.mark.parametrize("name", SCALED)
def test_chosen_scales_take_the_place_of_the_papers(name):
    for shape in (LANDSCAPE, PORTRAIT, SQUARE, (9, 14), (31, 160)):
        image, size, scales = picture(*shape), 17, (30, 17, 23)
        protocol = make_protocol(name, crop_config(size, 20), scales)
        assert protocol.scales == scales
        windows = seen(protocol, image)
        of_a_scale = {"10crop": 10, "12crop": 12, "144crop": 36, "multicrop": 50, "dense": 2}[name]
        assert len(windows) == protocol.windows == 3 * of_a_scale
        assert_windows(windows, EXPECTED[name](image, size, scales), allowed(name, shape), shape)


# The scales that the papers give, and those of github.com/soeaver/caffe-model for 299.
@pytest.mark.parametrize(
    ("name", "size", "scales"),
    [
        ("10crop", 224, (256,)),
        ("12crop", 224, (256,)),
        ("12crop", 299, (320,)),
        ("144crop", 224, (256, 288, 320, 352)),
        ("144crop", 299, (320, 352, 384, 416)),
        ("multicrop", 224, (224, 256, 288)),
        ("dense", 224, (224, 256, 288)),
    ],
)
def test_windows_of_the_papers_own_size(name, size, scales):
    shape = (231, 317) if size == 299 else (403, 225)
    image = picture(*shape)
    actual = seen(make_protocol(name, crop_config(size)), image)
    assert_windows(actual, EXPECTED[name](image, size, scales), allowed(name, shape))


def test_one_crop_of_the_papers_own_size():
    image = picture(231, 317)
    for size, resize in ((224, 256), (299, 342)):
        own = crop_config(size, resize)
        assert_windows(seen(make_protocol("single", own), image), single(image, size, resize), 1)
        assert_windows(seen(make_protocol("anisotropic", own), image), anisotropic(image, size))


def test_the_number_of_windows():
    for name, windows in (
        ("single", 1),
        ("anisotropic", 1),
        ("10crop", 10),  # AlexNet, section 4.1
        ("12crop", 12),  # Inception-v4, Table 3
        ("144crop", 144),  # GoogLeNet, section 7: 4 x 3 x 6 x 2
        ("multicrop", 150),  # VGG, section 3.2: 50 at each of 3 scales
        ("dense", 6),
    ):
        protocol = make_protocol(name, crop_config(16, 18))
        assert protocol.windows == windows
        for shape in (LANDSCAPE, PORTRAIT, SQUARE, (9, 14)):
            assert len(seen(protocol, picture(*shape))) == windows, (name, shape)
        assert protocol.is_dense == (name == "dense")
        assert protocol.mirrors == (windows > 1)


def test_every_protocol_is_tested():
    assert list(NAMES) == ["single", "anisotropic", *EXPECTED]


def test_the_144_crops_are_144_different_ones():
    for size, shape in ((16, (37, 70)), (16, (70, 37)), (16, (9, 17)), (224, (375, 500))):
        windows = seen(make_protocol("144crop", crop_config(size)), picture(*shape))
        assert len({window.tobytes() for window in windows}) == 144, (size, shape)


def test_the_three_squares_of_a_square_are_one():
    windows = seen(make_protocol("144crop", crop_config(16)), picture(*SQUARE))
    counts = collections.Counter(window.tobytes() for window in windows)
    assert list(counts.values()) == [3] * 48


def test_a_dense_canvas_is_a_multiple_of_a_seventh_longer_than_wide_and_loses_less():
    protocol = make_protocol("dense", crop_config(28))
    for shape in ((37, 121), (121, 37), (400, 37)):
        image, longer = picture(*shape), np.argmax(shape)
        for scale, (pixels, corners) in zip(protocol.scales, protocol.canvases(image), strict=True):
            assert corners is None
            sides = pixels.shape[:2]
            assert sides[1 - longer] == scale
            assert (sides[longer] - scale) % 4 == 0
            assert 0 <= scale * shape[longer] // 37 - sides[longer] < 4


def test_scales():
    for name, own, scales in (
        ("single", crop_config(224, 256), ()),
        ("anisotropic", crop_config(224, 256), ()),
        ("10crop", crop_config(224, 256), (256,)),  # AlexNet, section 4.1
        ("10crop", crop_config(224, 225), (225,)),
        ("10crop", crop_config(224, 224), (256,)),
        ("10crop", crop_config(224, 200), (256,)),
        ("10crop", crop_config(299, 320), (320,)),
        ("10crop", crop_config(299, 299), (342,)),  # 299 * 8 / 7 = 341.7
        ("10crop", crop_config(32, 28), (37,)),  # 36.6
        ("10crop", crop_config(224, 384, crop="scale", scale=(256, 512)), (384,)),
        ("12crop", crop_config(224, 300), (256,)),
        ("12crop", crop_config(299, 299), (320,)),
        ("12crop", crop_config(28, 28), (32,)),
        ("144crop", crop_config(224, 300), (256, 288, 320, 352)),  # GoogLeNet, section 7
        ("144crop", crop_config(299, 299), (320, 352, 384, 416)),  # github.com/soeaver/caffe-model
        ("144crop", crop_config(28, 28), (32, 36, 40, 44)),
        ("144crop", crop_config(227, 256), (259, 292, 324, 357)),  # 259.4, 291.9, 324.3, 356.7
        ("144crop", crop_config(331, 331), (378, 426, 473, 520)),  # 378.3, 425.6, 472.9, 520.1
    ):
        assert make_protocol(name, own).scales == scales, (name, own)


def test_vggs_three_scales():
    for own, scales in (
        # VGG, section 4.2: S - 32, S, S + 32 for a fixed S, the least, the mean and the most for one that is drawn.
        (crop_config(224, 256, crop="scale", scale=(256, 256)), (224, 256, 288)),
        (crop_config(224, 384, crop="scale", scale=(384, 384)), (352, 384, 416)),
        (crop_config(224, 384, crop="scale", scale=(256, 512)), (256, 384, 512)),
        (
            crop_config(224, 384, crop="scale", scale=(256, 256)),
            (224, 256, 288),
        ),  # trained at 256, whatever is evaluated
        (crop_config(32, 36, crop="scale", scale=(36, 72)), (36, 54, 72)),
        (crop_config(224, 256, crop="square", scale=(300, 300)), (268, 300, 332)),
        (crop_config(224, 256, crop="square", scale=(256, 320)), (256, 288, 320)),
        # Other training crops have no S: the evaluation's takes its place.
        (crop_config(224, 256), (224, 256, 288)),
        (crop_config(224, 224), (224, 256, 288)),
        (crop_config(224, 240, crop="central"), (224, 240, 272)),  # not less than the window
        (crop_config(299, 342), (299, 342, 385)),  # 299 / 7 = 42.7
        (crop_config(299, 400), (357, 400, 443)),
        (crop_config(28, 32), (28, 32, 36)),
    ):
        for name in ("multicrop", "dense"):
            assert make_protocol(name, own).scales == scales, own


def test_wrong_names_and_scales():
    for name, scales, text in (
        ("5crop", (), f"protocol='5crop' is not one of {', '.join(NAMES)}"),
        *(
            (name, (256,), f"scales=(256,) are not for protocol {name!r}, which has the network's own scale")
            for name in ("single", "anisotropic")
        ),
        *((name, (256, 223), "scales=(256, 223) must not be less than the network's 224 pixels") for name in SCALED),
    ):
        with pytest.raises(UserError, match=f"^{re.escape(text)}$"):
            make_protocol(name, crop_config(224, 256), scales)
    for name in SCALED:
        assert make_protocol(name, crop_config(224, 256), (224,)).scales == (224,)


def test_describe():
    own = crop_config(224, 256)
    assert [make_protocol(name, own).describe() for name in NAMES] == [
        "single",
        "anisotropic",
        "10crop at 256",
        "12crop at 256",
        "144crop at 256, 288, 320, 352",
        "multicrop at 224, 256, 288",
        "dense at 224, 256, 288",
    ]
    assert make_protocol("dense", own, (300, 256)).describe() == "dense at 300, 256"


def jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


def test_the_canvases_of_a_jpeg_are_those_of_its_pixels():
    for shape, options in itertools.product(SHAPES, [{}, {"progressive": True}]):
        data = jpeg(picture(*shape), **options)
        encoded = open_image(data, "x")
        assert isinstance(encoded, PlainJpeg)
        for name in NAMES:
            protocol = make_protocol(name, crop_config(16, 18))
            pairs = zip(protocol.canvases(encoded), protocol.canvases(decode_image(data, "x")), strict=True)
            for (pixels, corners), (expected, expected_corners) in pairs:
                np.testing.assert_array_equal(pixels, expected, f"{name}, {shape}")
                np.testing.assert_array_equal(corners, expected_corners)


def test_a_damaged_jpeg_is_reported():
    data = bytearray(jpeg(picture(*SQUARE)))
    data[data.index(b"\xff\xc0") + 12] = 3  # a quantization table that is not there (ITU-T T.81, B.2.2)
    encoded = open_image(bytes(data), "x")
    assert isinstance(encoded, PlainJpeg)
    for name in NAMES:
        with pytest.raises(DamagedImage, match="^x: "):
            make_protocol(name, crop_config(16, 18)).canvases(encoded)
