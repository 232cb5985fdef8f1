import functools
import io
import itertools
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from inception_jax.data import decoding
from inception_jax.data.decoding import (
    DamagedImage,
    PlainJpeg,
    array_to_rgb,
    decode_image,
    open_image,
    read_file,
    to_rgb,
)

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (5, 7, 3), np.uint8)


def encode(image, image_format, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, image_format, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_lossless_formats_come_back_exactly():
    for image_format, options in (("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        decoded = decode_image(encode(PICTURE, image_format, **options), "x")
        assert decoded.dtype == np.uint8
        assert decoded.flags.writeable
        np.testing.assert_array_equal(decoded, PICTURE)


def test_jpeg_colours():
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    decoded = decode_image(encode(flat, "JPEG", quality=95), "x")
    assert decoded.shape == (16, 16, 3)
    assert np.abs(decoded.astype(int) - flat).max() <= 2


def test_greyscale_is_repeated():
    for image_format in ("PNG", "JPEG"):
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
def test_palette_is_looked_up():
    for options in ({}, {"transparency": b"\x00\x80"}, {"transparency": 1}):
        image = Image.fromarray(np.array([[0, 1, 1]], np.uint8)).convert("P")
        image.putpalette([10, 20, 30, 40, 50, 60])
        decoded = decode_image(encode(image, "PNG", **options), "x")
        np.testing.assert_array_equal(decoded[0], [[10, 20, 30], [40, 50, 60], [40, 50, 60]])


def test_16_bit_greyscale_is_scaled_not_clipped():
    for image_format, dtype in (("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("TIFF", "<i4")):
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


def test_cmyk_jpeg_with_adobe_inverted_inks():
    for inks, colour in (
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 0, 0, 128), (127, 127, 127)),
        ((0, 51, 102, 127), (128, 102, 77)),  # 128 * (1, 0.8, 0.6)
    ):
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


def test_exif_orientation_is_applied():
    grey = np.repeat(PICTURE[..., :1], 3, axis=2)
    for orientation, upright in UPRIGHT.items():
        for stored, expected in ((PICTURE, PICTURE), (PICTURE[..., 0].astype(np.uint16) * 257, grey)):
            decoded = decode_image(encode(stored, "PNG", exif=exif(orientation)), "x")
            np.testing.assert_array_equal(decoded, upright(expected), err_msg=f"{orientation} {stored.dtype}")
    assert decode_image(encode(PICTURE, "JPEG", exif=exif(6)), "x").shape == (7, 5, 3)


def test_broken_exif_does_not_cost_the_picture():
    whole = decode_image(encode(PICTURE, "JPEG"), "x")
    broken = encode(PICTURE, "JPEG", exif=b"Exif\0\0this is not a TIFF header")
    np.testing.assert_array_equal(decode_image(broken, "x"), whole)

    tags = exif(6)
    tags[0x010F] = "maker"
    broken = tags.tobytes().replace(b"\x01\x0f\x00\x02", b"\x01\x01\x00\x02")  # text where the height belongs
    np.testing.assert_array_equal(decode_image(encode(PICTURE, "JPEG", exif=broken), "x"), UPRIGHT[6](whole))


def test_first_frame_of_an_animation():
    frames = [Image.new("L", (3, 2), value) for value in (10, 200)]
    decoded = decode_image(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), "x")
    np.testing.assert_array_equal(decoded, np.full((2, 3, 3), 10))


NOISE = RNG.integers(0, 256, (64, 64, 3), np.uint8)


def test_damage_is_reported_with_the_name():
    for data, reason in (
        (b"", "empty file"),
        (b"this is a text file, not a picture\n", "not an image"),
        (encode(NOISE, "JPEG")[:-1000], "truncated"),
        (encode(NOISE, "JPEG")[:100], "."),
        (encode(NOISE, "PNG")[:-1000], "truncated"),
        (encode(NOISE, "PNG")[:20], "."),
        (encode(NOISE, "WEBP")[:-1000], "."),
        (encode(NOISE, "PNG")[:60] + b"\xff" * 20 + encode(NOISE, "PNG")[80:], "."),
        (b"P6 1 1 255 abc", "not an image"),  # PPM: not among the formats
    ):
        with pytest.raises(DamagedImage, match=reason) as caught:
            decode_image(data, "train/cat/7.jpg")
        assert caught.value.name == "train/cat/7.jpg"
        assert str(caught.value) == f"train/cat/7.jpg: {caught.value.reason}"
        assert "\n" not in str(caught.value)


def test_more_pixels_than_the_bound_are_damaged():
    for image_format in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
        data = encode(NOISE, image_format)
        assert decode_image(data, "x", max_pixels=64 * 64).shape == (64, 64, 3)
        for read in (decode_image, open_image):
            with pytest.raises(DamagedImage, match="64 x 64 pixels are more than 4,095"):
                read(data, "x", max_pixels=64 * 64 - 1)


def with_size(jpeg, height, width):
    """The JPEG with another size in its header."""
    at = next(jpeg.index(marker) for marker in (b"\xff\xc0\x00", b"\xff\xc2\x00") if marker in jpeg)
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def test_a_jpeg_of_a_few_bytes_is_not_taken_for_millions_of_pixels():
    """A block of 8 x 8 pixels takes two bits at least, in a progressive file one."""
    for options in ({}, {"progressive": True}, {"exif": exif(6)}):
        data = encode(texture(60, 80), "JPEG", **options)
        side = int((64 * 8 * len(data) / (1 if "progressive" in options else 2)) ** 0.5)
        for read in (decode_image, open_image):
            with pytest.raises(DamagedImage, match=f"{len(data)} bytes are too few for {side + 1} x {side + 1} pixels"):
                read(with_size(data, side + 1, side + 1), "x")
        assert decode_image(with_size(data, side, side), "x").shape == (side, side, 3)


def test_a_file_of_a_few_bytes_costs_little_whatever_its_format():
    """Above 2^24 pixels there must be a byte for 8192 of them."""
    size = (4097, 4096)
    data = encode(Image.new("RGB", size), "WEBP", lossless=True)
    with pytest.raises(DamagedImage, match=f"{len(data)} bytes are too few for 4097 x 4096 pixels"):
        decode_image(data, "x")
    data = encode(Image.new("1", size), "PNG")  # nearly the smallest that a PNG can be
    assert decode_image(data, "x").shape == (4096, 4097, 3)


def test_the_smallest_jpeg_is_not_too_small():
    """All of one colour, with Huffman tables of their own: no encoder needs less."""
    for options in ({}, {"progressive": True}):
        flat = Image.new("L", (2000, 2000), 128)
        data = encode(flat, "JPEG", optimize=True, **options)
        assert (decode_image(data, "x") == 128).all()


def test_hundreds_of_scans_count_as_more_pixels():
    data = encode(np.full((1000, 1000), 128, np.uint8), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    last = data.rindex(b"\xff\xda", 0, end)
    scan = data[last : last + 10]  # its header: the same coefficients again, and no data
    with pytest.raises(DamagedImage, match="bytes are too few for 1000 x 1000 pixels"):
        open_image(data[:end] + scan * 5000 + data[end:], "x")


def test_damaged_image_survives_pickling():
    error = pickle.loads(pickle.dumps(DamagedImage("a.jpg", "truncated")))
    assert (error.name, error.reason, str(error)) == ("a.jpg", "truncated", "a.jpg: truncated")


def test_many_threads():
    files = [encode(NOISE[: 8 + i], image_format) for i in range(40) for image_format in ("JPEG", "PNG", "WEBP")]
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda data: decode_image(data, "x"), files))
    for data, image in zip(files, decoded, strict=True):
        np.testing.assert_array_equal(image, decode_image(data, "x"))


@functools.cache
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


def plain(kind, image):
    """The image as a JPEG file of that kind."""
    return encode(image[..., 0] if kind == "grey" else image, "JPEG", **PLAIN[kind])


def test_plain_jpegs_decode_to_the_same_pixels_down_to_any_row():
    shapes = ((1, 1), (2, 3), (7, 5), (16, 16), (17, 33), (47, 35), (64, 48))
    for kind, shape in itertools.product(PLAIN, shapes):
        data = plain(kind, texture(*shape))
        expected = decode_image(data, "x")
        jpeg = open_image(data, "x")
        assert isinstance(jpeg, PlainJpeg)
        assert jpeg.shape == shape
        for bottom in (*range(1, shape[0] + 1), None):
            pixels, factor = jpeg.decode(bottom)
            assert factor == 1
            np.testing.assert_array_equal(pixels[:bottom], expected[:bottom], err_msg=f"{kind} {shape} {bottom}")


def test_rows_below_are_not_decoded():
    data = encode(texture(200, 40), "JPEG")
    assert [len(open_image(data, "x").decode(bottom)[0]) for bottom in (10, 197, 199, None)] == [12, 199, 200, 200]
    # A progressive file has all rows in each of its scans.
    assert len(open_image(encode(texture(200, 40), "JPEG", progressive=True), "x").decode(10)[0]) == 200


def test_shrunken_pixels_are_means():
    for kind, factor in itertools.product(("444", "420", "progressive", "restarts", "grey"), (2, 4, 8)):
        data = plain(kind, texture(77, 130))
        whole = decode_image(data, "x").astype(float)
        pixels, given = open_image(data, "x").decode(60, factor)
        assert given == factor
        assert pixels.shape[1:] == (-(-130 // factor), 3)
        rows, columns = 60 // factor, 130 // factor
        means = whole[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3).mean((1, 3))
        assert np.abs(pixels[:rows, :columns] - means).mean() < 1, (kind, factor)


def test_colour_of_half_the_width_is_not_shrunk():
    data = encode(texture(77, 130), "JPEG", subsampling="4:2:2")
    pixels, factor = open_image(data, "x").decode(60, 4)
    assert factor == 1
    np.testing.assert_array_equal(pixels[:60], decode_image(data, "x")[:60])


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def test_only_plain_jpegs_are_left_encoded():
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


def segment(marker, content):
    return struct.pack(">HH", marker, len(content) + 2) + content


ODD_SEGMENTS = {  # Pillow refuses a file for each; libjpeg passes over it
    "a short JFIF": segment(0xFFE0, b"JFIF\0\1"),
    "a short Adobe": segment(0xFFEE, b"Adobe"),
    "a cut Photoshop block": segment(0xFFED, b"Photoshop 3.0\08BIM\4\4"),
    "a short ICC profile": segment(0xFFE2, b"ICC_PROFILE\0"),
    "a filling byte": b"\xff",
}


def test_odd_segments_do_not_cost_the_picture():
    image = Image.fromarray(texture(20, 30))
    for data in (
        encode(image, "JPEG"),
        encode(image, "JPEG", exif=exif(1)),
        encode(image, "JPEG", exif=exif(6)),
        encode(image.convert("CMYK"), "JPEG"),
    ):
        for kind, odd in ODD_SEGMENTS.items():
            for read in (lambda data: decode_image(data, "x"), lambda data: decode_opened(data, None)):
                np.testing.assert_array_equal(read(data[:2] + odd + data[2:]), decode_image(data, "x"), err_msg=kind)


def test_sides_that_libjpeg_refuses_are_damaged_however_few_rows_are_wanted():
    data = with_size(encode(np.zeros((8, 8), np.uint8), "JPEG", comment=b"x" * 20_000), 65_501, 8)
    for bottom in (4, None):
        with pytest.raises(DamagedImage):
            decode_opened(data, bottom)


def test_an_error_after_the_scan_is_treated_alike_whichever_rows_are_wanted():
    """A second frame. Where all scans must be read first, there are no pixels; none may be made up."""
    for kind in PLAIN:
        data = plain(kind, texture(40, 56))
        end, frame = data.rindex(b"\xff\xd9"), data.index(b"\xff\xc2" if kind == "progressive" else b"\xff\xc0")
        two_frames = data[:end] + data[frame : frame + 19] + data[end:]
        for bottom in (1, 10, None):
            if kind == "progressive":
                with pytest.raises(DamagedImage, match="broken data stream"):
                    decode_opened(two_frames, bottom)
            else:
                rows = decode_opened(two_frames, bottom)[:bottom]
                np.testing.assert_array_equal(rows, decode_image(data, "x")[:bottom], err_msg=f"{kind} {bottom}")


def outcome(decode):
    try:
        return decode()
    except DamagedImage as damaged:
        return damaged.reason


def decode_opened(data, bottom):
    opened = open_image(data, "x")
    return opened.decode(bottom)[0] if isinstance(opened, PlainJpeg) else opened


def test_a_jpeg_cut_off_anywhere_is_damaged_whichever_rows_are_wanted():
    for progressive in (False, True):
        data = encode(texture(40, 56), "JPEG", progressive=progressive, exif=exif(1))
        for end in (*range(0, len(data) - 2, 61), len(data) - 2):
            for bottom in (4, None):
                with pytest.raises(DamagedImage):
                    decode_opened(data[:end], bottom)


FUZZED = {
    "jpeg": encode(texture(60, 80), "JPEG"),
    "jpeg 4:4:4": encode(texture(60, 80), "JPEG", subsampling="4:4:4"),
    "jpeg 4:2:2": encode(texture(60, 80), "JPEG", subsampling="4:2:2"),
    "jpeg progressive": encode(texture(60, 80), "JPEG", progressive=True),
    "jpeg restarts": encode(texture(60, 80), "JPEG", restart_marker_blocks=3),
    "jpeg grey": encode(texture(60, 80)[..., 0], "JPEG"),
    "jpeg cmyk": encode(Image.fromarray(texture(60, 80)).convert("CMYK"), "JPEG"),
    "jpeg turned": encode(texture(60, 80), "JPEG", exif=exif(6)),
    "jpeg metadata": encode(texture(60, 80), "JPEG", exif=exif(1), icc_profile=b"x" * 300, xmp=XMP % 1, comment=b"y"),
    "png": encode(texture(60, 80), "PNG"),
    "png palette": encode(Image.fromarray(texture(60, 80)).quantize(32), "PNG"),
    "png 16 bits": encode(texture(60, 80)[..., 0].astype("<u2") * 257, "PNG"),
    "png bilevel": encode(Image.fromarray(texture(60, 80)).convert("1"), "PNG"),
    "webp": encode(texture(60, 80), "WEBP"),
    "webp lossless": encode(texture(60, 80), "WEBP", lossless=True, exif=exif(6)),
    "gif": encode(Image.fromarray(texture(60, 80)).quantize(32), "GIF"),
    "tiff": encode(texture(60, 80), "TIFF"),
    "tiff lzw": encode(texture(60, 80), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": encode(texture(60, 80), "TIFF", compression="jpeg"),
    "bmp": encode(texture(60, 80), "BMP"),
}


def mutant(kind, seed):
    """The file of that kind with some damage: bytes changed, cut out or put in, a wrong size, a marker."""
    rng, data = np.random.default_rng(seed), bytearray(FUZZED[kind])
    at = int(rng.integers(2, len(data) if rng.random() < 0.5 else min(len(data), 700)))  # the header is short
    size = struct.pack(rng.choice([">HH", "<HH"]), *rng.integers(1, 16_000, 2).tolist())
    match rng.integers(7):
        case 0:
            for place in rng.integers(2, len(data), 4):
                data[place] = rng.integers(256)
        case 1:
            data[at] = rng.integers(256)
        case 2:
            del data[at:]
        case 3:
            del data[at : at + int(rng.integers(1, 40))]
        case 4:
            data[at:at] = rng.bytes(rng.integers(1, 30))
        case 5:
            data[at:at] = bytes((0xFF, rng.integers(0xC0, 0xFF)))
        case 6 if kind.startswith("jpeg"):
            data = with_size(bytes(data), *struct.unpack(">HH", size))
        case 6:
            sides = [
                place for place in range(len(data) - 1) if data[place] in (60, 80) and 0 in data[place - 1 : place + 2]
            ]
            place = int(rng.choice(sides)) if sides else at
            data[place : place + 2] = size[:2]
    return bytes(data)


@pytest.mark.parametrize("kind", FUZZED)
@pytest.mark.filterwarnings("ignore:::PIL")
def test_a_mutant_is_read_alike_whichever_rows_are_wanted(kind):
    """FUZZ=100 makes 2,000 files of the 20 kinds. The memory is what all of a kind took at the most."""
    before, _ = memory()
    for seed in range(int(os.environ.get("FUZZ", 8))):
        data = mutant(kind, seed)
        start = time.thread_time()
        whole = outcome(lambda data=data: decode_image(data, "x"))
        opened = outcome(lambda data=data: open_image(data, "x"))
        assert time.thread_time() - start < 2, seed  # of the processor: two readers of a second each
        if not isinstance(opened, PlainJpeg):
            np.testing.assert_array_equal(opened, whole)
            continue
        for bottom in (1, opened.shape[0] // 3 + 1, None):
            pixels = outcome(lambda bottom=bottom, jpeg=opened: jpeg.decode(bottom)[0])
            assert isinstance(pixels, str) == isinstance(whole, str), (seed, bottom)
            np.testing.assert_array_equal(pixels[:bottom], whole[:bottom])
        for factor in (2, 4, 8):
            shrunk = outcome(lambda factor=factor, jpeg=opened: jpeg.decode(None, factor)[0])
            assert isinstance(shrunk, str) == isinstance(whole, str), (seed, factor)
    assert memory()[1] - before < 500e6


def memory():
    """Bytes that this process has in use, and the most that it has had since this was asked the last time."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux tells the memory")
    kilobytes = dict(line.split(":") for line in status.read_text(encoding="utf-8").splitlines())
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return [int(kilobytes[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")]


def test_damage_is_read_as_pillow_reads_it():
    """Bytes that were changed in the scan: the same pixels, by another program around the same library."""
    for seed in range(40):
        data = bytearray(encode(texture(40, 56), "JPEG", restart_marker_blocks=seed % 3))
        rng = np.random.default_rng(seed)
        for at in rng.integers(data.index(b"\xff\xda") + 14, len(data) - 2, 3):
            data[at] = rng.integers(256)
        with Image.open(io.BytesIO(data)) as image:
            try:
                expected = np.asarray(image)
            except OSError:  # a marker arose
                continue
        np.testing.assert_array_equal(decode_image(bytes(data), "x"), expected)


def test_pillow_warns_of_no_image():
    """Of odd tags and large sizes, a line for each image."""
    code = """if True:
        import io, warnings
        from PIL import Image
        from inception_jax.data.decoding import decode_image
        exif, file = Image.Exif(), io.BytesIO()
        exif[0x010F] = "maker"
        Image.new("L", (8, 8)).save(file, "JPEG", exif=exif.tobytes()[:-4])
        decode_image(file.getvalue(), "x")
        Image.MAX_IMAGE_PIXELS = 60
        decode_image(file.getvalue(), "x")
        Image.open(file)"""
    result = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.count("Warning") == 1, result.stderr
    assert "DecompressionBombWarning" in result.stderr  # of the last line: others are warned as before


PIL_IMAGES = {
    "RGB": Image.fromarray(PICTURE),
    "grey": Image.fromarray(PICTURE[..., 0]),
    "alpha": Image.fromarray(np.dstack([PICTURE, PICTURE[..., :1]])),
    "grey and alpha": Image.fromarray(PICTURE[..., :2]),
    "bilevel": Image.fromarray(PICTURE[..., 0] > 128),
    "16 bits": Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 200),
}


def test_arrays_are_converted_as_files_are():
    for kind, image in PIL_IMAGES.items():
        expected = decode_image(encode(image, "PNG"), "x")
        np.testing.assert_array_equal(to_rgb(image, "x"), expected)
        np.testing.assert_array_equal(array_to_rgb(np.asarray(image), "x"), expected)
        if kind == "16 bits":
            np.testing.assert_array_equal(array_to_rgb(np.asarray(image)[..., None].astype(">u2"), "x"), expected)


def test_16_bit_colour_in_arrays_is_that_of_files():
    colours = np.array([[[0x00FF, 0x8080, 0xFEFE]]], np.uint16)
    np.testing.assert_array_equal(array_to_rgb(colours, "x"), [[[0x00, 0x80, 0xFE]]])


def test_a_pil_image_stays_as_it_is():
    tags = exif(6)
    with Image.open(io.BytesIO(encode(PICTURE, "PNG", exif=tags))) as image:
        assert to_rgb(image, "x").shape == (7, 5, 3)
        assert (image.size, image.getexif()[0x0112]) == ((7, 5), 6)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in (("pipe.jpg", "not a regular file"), ("nowhere.jpg", "No such file or directory")):
        with pytest.raises(DamagedImage, match=f"^x: {reason}$"):
            read_file(tmp_path / name, "x")


def test_pillow_decodes_what_the_fast_decoder_refuses(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("unsupported")

    data = encode(texture(40, 56), "JPEG")
    monkeypatch.setattr(decoding.simplejpeg, "decode_jpeg", refuse)
    pixels, factor = open_image(data, "x").decode(10, factor=2)
    assert factor == 1
    np.testing.assert_array_equal(pixels, decode_image(data, "x"))
