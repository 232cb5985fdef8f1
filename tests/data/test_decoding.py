import io
import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from inception_jax.data import decoding
from inception_jax.data.decoding import DamagedImage, PlainJpeg, decode_image, open_image

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (5, 7, 3), np.uint8)


def encode(image, image_format, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, image_format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("image_format", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_lossless_formats_come_back_exactly(image_format, options):
    decoded = decode_image(encode(PICTURE, image_format, **options), "x")
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, PICTURE)


def test_jpeg_colours():
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    decoded = decode_image(encode(flat, "JPEG", quality=95), "x")
    assert decoded.shape == (16, 16, 3)
    assert np.abs(decoded.astype(int) - flat).max() <= 2


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_greyscale_is_repeated(image_format):
    decoded = decode_image(encode(np.full((8, 8), 77, np.uint8), image_format), "x")
    np.testing.assert_array_equal(decoded, np.full((8, 8, 3), 77))


def test_bilevel_is_black_and_white():
    decoded = decode_image(encode(Image.fromarray(np.array([[True, False]])), "PNG"), "x")
    np.testing.assert_array_equal(decoded[0], [[255] * 3, [0] * 3])


def test_alpha_is_dropped_not_composited():
    rgba = np.dstack([PICTURE, np.zeros((5, 7), np.uint8)])
    np.testing.assert_array_equal(decode_image(encode(rgba, "PNG"), "x"), PICTURE)
    grey_alpha = Image.merge("LA", [Image.new("L", (2, 1), 90), Image.new("L", (2, 1), 0)])
    np.testing.assert_array_equal(decode_image(encode(grey_alpha, "PNG"), "x"), np.full((1, 2, 3), 90))


@pytest.mark.filterwarnings("error")  # Pillow warns of palettes with alpha unless that is seen to
@pytest.mark.parametrize("options", [{}, {"transparency": b"\x00\x80"}, {"transparency": 1}])
def test_palette_is_looked_up(options):
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    decoded = decode_image(encode(image, "PNG", **options), "x")
    np.testing.assert_array_equal(decoded[0], [[10, 20, 30], [40, 50, 60], [40, 50, 60]])


@pytest.mark.parametrize(
    ("image_format", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("TIFF", "<i4")], ids=str
)
def test_16_bit_greyscale_is_scaled_not_clipped(image_format, dtype):
    # 128 / 257 = 0.498, 129 / 257 = 0.502, 32639 / 257 = 127, 65406 / 257 = 254.498, 65407 / 257 = 254.502.
    values = np.array([[0, 128, 129, 257, 32639, 65406, 65407, 65535]], np.int64)
    decoded = decode_image(encode(Image.fromarray(values.astype(dtype)), image_format), "x")
    np.testing.assert_array_equal(decoded[0], np.repeat([0, 0, 1, 1, 127, 254, 255, 255], 3).reshape(8, 3))


def test_16_bit_rgb_png():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)  # 2 x 1 pixels, 16 bits, RGB
    row = b"\x00" + struct.pack(">6H", 0x0000, 0x8080, 0xFFFF, 0x0101, 0x4040, 0xFEFE)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_image(data, "x"), [[[0, 0x80, 0xFF], [1, 0x40, 0xFE]]])


def test_floating_point_pixels_are_refused():
    with pytest.raises(DamagedImage, match=r"^f\.tif: floating-point"):
        decode_image(encode(np.full((2, 2), 0.5, np.float32), "TIFF"), "f.tif")


@pytest.mark.parametrize(
    ("inks", "colour"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 0, 0, 128), (127, 127, 127)),
        ((0, 51, 102, 127), (128, 102, 77)),  # 128 * (1, 0.8, 0.6)
    ],
)
def test_cmyk_jpeg_with_adobe_inverted_inks(inks, colour):
    data = encode(Image.new("CMYK", (16, 16), inks), "JPEG", quality=100)
    assert b"Adobe" in data  # the marker by which readers know that the inks are stored as 255 - ink
    decoded = decode_image(data, "x").astype(int)
    assert np.abs(decoded - colour).max() <= 2


def test_ycck_jpeg():
    # Red is the inks (0, 255, 255, 0). YCCK stores the first three as the Y Cb Cr of an RGB colour, (179, 171, 0), and
    # K inverted, as 255. Pillow writes no YCCK; but as CMYK it writes 255 - value, and setting the transform in the
    # Adobe marker to 2 then says that the values are YCCK.
    data = encode(Image.new("CMYK", (16, 16), (255 - 179, 255 - 171, 255 - 0, 0)), "JPEG", quality=100)
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data = data[:transform] + b"\x02" + data[transform + 1 :]
    decoded = decode_image(data, "x").astype(int)
    assert np.abs(decoded - (255, 0, 0)).max() <= 2


UPRIGHT = {  # by the definition of the EXIF tag: which sides of the scene row 0 and column 0 of the stored image are
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: np.rot90(stored, -1),  # right, top
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),  # right, bottom
    8: lambda stored: np.rot90(stored),  # left, bottom
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("grey_16", [False, True])
def test_exif_orientation_is_applied(orientation, grey_16):
    stored = PICTURE[..., 0].astype(np.uint16) * 257 if grey_16 else PICTURE
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encode(stored, "PNG", exif=exif), "x")
    expected = np.repeat(PICTURE[..., :1], 3, axis=2) if grey_16 else PICTURE
    np.testing.assert_array_equal(decoded, UPRIGHT[orientation](expected))


def test_exif_orientation_of_a_jpeg():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encode(PICTURE, "JPEG", exif=exif), "x").shape == (7, 5, 3)


def test_broken_exif_does_not_cost_the_picture():
    whole = decode_image(encode(PICTURE, "JPEG"), "x")
    broken = encode(PICTURE, "JPEG", exif=b"Exif\0\0this is not a TIFF header")
    np.testing.assert_array_equal(decode_image(broken, "x"), whole)

    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 6
    broken = exif.tobytes().replace(b"\x01\x0f\x00\x02", b"\x01\x01\x00\x02")  # text where the height belongs
    np.testing.assert_array_equal(decode_image(encode(PICTURE, "JPEG", exif=broken), "x"), UPRIGHT[6](whole))


def test_first_frame_of_an_animation():
    frames = [Image.new("L", (3, 2), value) for value in (10, 200)]
    decoded = decode_image(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), "x")
    np.testing.assert_array_equal(decoded, np.full((2, 3, 3), 10))


NOISE = RNG.integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"this is a text file, not a picture\n", "not an image"),
        (encode(NOISE, "JPEG")[:-1000], "truncated"),
        (encode(NOISE, "JPEG")[:100], "."),
        (encode(NOISE, "PNG")[:-1000], "truncated"),
        (encode(NOISE, "PNG")[:20], "."),
        (encode(NOISE, "WEBP")[:-1000], "."),
        (encode(NOISE, "PNG")[:60] + b"\xff" * 20 + encode(NOISE, "PNG")[80:], "."),
        (b"P6 1 1 255 abc", "not an image"),  # PPM: not among the formats
    ],
    ids=["empty", "text", "cut_jpeg", "jpeg_head", "cut_png", "png_head", "cut_webp", "corrupt_png", "ppm"],
)
def test_damage_is_reported_with_the_name(data, reason):
    with pytest.raises(DamagedImage, match=reason) as caught:
        decode_image(data, "train/cat/7.jpg")
    assert caught.value.name == "train/cat/7.jpg"
    assert str(caught.value) == f"train/cat/7.jpg: {caught.value.reason}"
    assert "\n" not in str(caught.value)


def test_decompression_bomb_is_damaged(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DamagedImage, match="decompression bomb"):
        decode_image(encode(NOISE, "PNG"), "x")


def test_damaged_image_survives_pickling():
    error = pickle.loads(pickle.dumps(DamagedImage("a.jpg", "truncated")))
    assert (error.name, error.reason, str(error)) == ("a.jpg", "truncated", "a.jpg: truncated")


def test_many_threads():
    files = [encode(NOISE[: 8 + i], image_format) for i in range(40) for image_format in ("JPEG", "PNG", "WEBP")]
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda data: decode_image(data, "x"), files))
    for data, image in zip(files, decoded, strict=True):
        np.testing.assert_array_equal(image, decode_image(data, "x"))


def texture(height, width, seed=0):
    """Smooth colours with noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return (np.asarray(coarse) + rng.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)


PLAIN = {
    "444": {"subsampling": "4:4:4"},
    "422": {"subsampling": "4:2:2"},
    "420": {"subsampling": "4:2:0"},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 2},
    "grey": {},
    "quality 100": {"quality": 100},
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 5), (16, 16), (17, 33), (47, 35), (64, 48)])
def test_plain_jpegs_decode_to_the_same_pixels_down_to_any_row(kind, shape):
    image = texture(*shape)
    data = encode(image[..., 0] if kind == "grey" else image, "JPEG", **PLAIN[kind])
    expected = decode_image(data, "x")
    jpeg = open_image(data, "x")
    assert isinstance(jpeg, PlainJpeg)
    assert jpeg.shape == shape
    for bottom in (*range(1, shape[0] + 1), None):
        pixels, factor = jpeg.decode(bottom)
        assert factor == 1
        np.testing.assert_array_equal(pixels[:bottom], expected[:bottom])


def test_rows_below_are_not_decoded():
    data = encode(texture(200, 40), "JPEG")
    assert [len(open_image(data, "x").decode(bottom)[0]) for bottom in (10, 197, 199, None)] == [12, 199, 200, 200]
    # A progressive file has all rows in each of its scans.
    assert len(open_image(encode(texture(200, 40), "JPEG", progressive=True), "x").decode(10)[0]) == 200


@pytest.mark.parametrize("kind", ["444", "420", "progressive", "restarts", "grey"])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_shrunken_pixels_are_the_means_of_theirs(kind, factor):
    image = texture(77, 130)
    data = encode(image[..., 0] if kind == "grey" else image, "JPEG", **PLAIN[kind])
    whole = decode_image(data, "x").astype(float)
    pixels, given = open_image(data, "x").decode(60, factor)
    assert given == factor
    assert pixels.shape[1:] == (-(-130 // factor), 3)
    rows, columns = 60 // factor, 130 // factor
    means = whole[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3).mean((1, 3))
    error = np.abs(pixels[:rows, :columns] - means)
    assert error.mean() < 1


def test_colour_of_half_the_width_is_not_shrunk():
    data = encode(texture(77, 130), "JPEG", subsampling="4:2:2")
    pixels, factor = open_image(data, "x").decode(60, 4)
    assert factor == 1
    np.testing.assert_array_equal(pixels[:60], decode_image(data, "x")[:60])


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def test_only_plain_jpegs_are_left_encoded(monkeypatch):
    image = texture(20, 30)
    for options in (
        {},
        {"exif": exif(1)},
        {"xmp": XMP % 1},
        {"comment": b"\xff\xd9\xff\xda"},
        {"icc_profile": b"x" * 99},
    ):
        assert isinstance(open_image(encode(image, "JPEG", **options), "x"), PlainJpeg), options
    assert isinstance(open_image(encode(image, "JPEG") + b"trailer", "x"), PlainJpeg)
    others = [
        encode(image, "PNG"),
        encode(image, "WEBP"),
        encode(image, "JPEG", exif=exif(6)),
        encode(image, "JPEG", xmp=XMP % 6),
        encode(Image.fromarray(image).convert("CMYK"), "JPEG"),
    ]
    for data in others:
        np.testing.assert_array_equal(open_image(data, "x"), decode_image(data, "x"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with pytest.warns(Image.DecompressionBombWarning):  # Pillow is asked
        open_image(encode(image, "JPEG"), "x")


def outcome(decode):
    try:
        return decode()
    except DamagedImage as damaged:
        return damaged.reason


def decode_opened(data, bottom):
    opened = open_image(data, "x")
    return opened.decode(bottom)[0] if isinstance(opened, PlainJpeg) else opened


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_off_anywhere_is_damaged_whichever_rows_are_wanted(progressive):
    data = encode(texture(40, 56), "JPEG", progressive=progressive, exif=exif(1))
    for end in (*range(0, len(data) - 2, 61), len(data) - 2):
        for bottom in (4, None):
            with pytest.raises(DamagedImage):
                decode_opened(data[:end], bottom)


@pytest.mark.parametrize("seed", range(40))
def test_what_pillow_makes_of_a_corrupt_jpeg_is_made_of_it(seed):
    data = bytearray(encode(texture(40, 56), "JPEG", restart_marker_blocks=seed % 3))
    rng = np.random.default_rng(seed)
    for at in rng.integers(2, len(data), 3):
        data[at] = rng.integers(256)
    data = bytes(data)
    ours, theirs = outcome(lambda: decode_opened(data, None)), outcome(lambda: decode_image(data, "x"))
    np.testing.assert_array_equal(ours, theirs)


def test_pillow_decodes_what_the_fast_decoder_refuses(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("unsupported")

    data = encode(texture(40, 56), "JPEG")
    monkeypatch.setattr(decoding.simplejpeg, "decode_jpeg", refuse)
    pixels, factor = open_image(data, "x").decode(10, factor=2)
    assert factor == 1
    np.testing.assert_array_equal(pixels, decode_image(data, "x"))
