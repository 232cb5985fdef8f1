import io
import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from inception_jax.data.decoding import DamagedImage, decode_image

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
