"""Draws characters: the images of `glyphs`, and the processes that draw them.

This file also runs alone, as a worker process. It imports nothing else of the package, to avoid importing JAX.
"""

import functools
import io
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

# Our choice: no two characters look alike, mirrored or not, when rotated by 20 degrees and slightly sheared and
# stretched. There is only one of 0, O, o and theta, of c and C, of A and Greek and Cyrillic A, of N and its mirror
# image; 1, I and l are left out. (The correlation of the blurred images, over all fonts and such distortions, is below
# 0.89, and no pair stands out among the mistakes of a trained network.)
CLASSES = "023456789ACFGHKLMNPRTUWXYZbefnÞæΔΞΣΦΨΩαβλμξωϚϞϠБДЖЛЦЧШЫЮЂЉѢʤɮ#$%&*+<=@~£§©«±¶¿‡€↝↯↰↴↵↷↹↺⇅⇑∀∇∈√∞≡≤⊎⊏⊕⊞⊠⊢⊥⋄⌂♭"

# The upright faces of matplotlib's fonts that contain all of `CLASSES`. Shearing makes slanted ones; true italics would
# make some characters look like others.
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
)

SPLITS = ("train", "test")

_SEED = 1  # to change the images, change this number and the VERSION of the builder


class Difficulty(NamedTuple):
    """Ranges of uniform draws. Lengths are fractions of the image's side, colours are 0 to 255 (our choice)."""

    rotation: float  # maximum, either way, in degrees
    shear: float  # maximum tangent of the horizontal shearing angle, either way
    stretch: float  # maximum ratio by which width grows relative to height, or height to width
    extent: float  # minimum of the longer side of the distorted glyph's box
    contrast: float  # minimum difference in luminance between ink and paper
    gradient: float  # maximum difference between the paper's middle and edge, in each channel and direction
    clutter: int  # maximum number of other objects behind the glyph: parts of glyphs, and lines
    clutter_colour: float  # position of their colour between the paper's (0) and any other (1)
    strokes: int  # maximum number of lines over the glyph, of any colour
    blur: float  # maximum standard deviation, for 32 pixels; proportional to the image's size
    noise: float  # maximum standard deviation, for each pixel and channel
    largest: float = 0.95  # maximum of the side of which `extent` is the minimum
    quarters: bool = False  # whether the parts of glyphs are quarters of them anywhere, not whole ones near the edge
    dark: bool = False  # whether the ink is always darker than the paper


# Small networks begin to learn the first within a hundred steps. The first four fill their images. In the last a small
# glyph has to be found: it has a box, and nothing else in the image is a whole character.
DIFFICULTIES = {
    0: Difficulty(10, 0.1, 1.15, 0.7, 150, 20, 2, 0.3, 0, 0.3, 8, dark=True),
    1: Difficulty(10, 0.1, 1.15, 0.7, 110, 20, 2, 0.3, 0, 0.3, 8),
    2: Difficulty(20, 0.2, 1.3, 0.6, 80, 40, 4, 0.5, 1, 0.6, 20),
    3: Difficulty(30, 0.3, 1.5, 0.45, 60, 60, 6, 0.8, 2, 0.9, 28),
    4: Difficulty(10, 0.1, 1.15, 0.25, 110, 20, 8, 0.5, 0, 0.3, 8, largest=0.5, quarters=True),
}


def label(split: str, index: int, classes: int = len(CLASSES)) -> int:
    """Returns an image's class, an index into `CLASSES`; each block of `classes` images has each class once."""
    block, position = divmod(index, classes)
    return int(_order(split, block, classes)[position])


@functools.lru_cache(maxsize=4)
def _order(split: str, block: int, classes: int) -> np.ndarray:
    return _rng(split, 1, block).permutation(classes)


def _rng(split: str, purpose: int, number: int) -> np.random.Generator:
    return np.random.default_rng((_SEED, SPLITS.index(split), purpose, number))


class Drawn(NamedTuple):
    """An image, and where its glyph is.

    Attributes:
      pixels: uint8 [size, size, 3], RGB.
      box: (xmin, ymin, xmax, ymax), the first and last columns and rows, from 0, of the pixels that the glyph covers by
        half or more; or, of strokes thinner than half a pixel, at least half as much as the pixel that it covers most.
        Blur is not counted, nor what lies over the glyph.
    """

    pixels: np.ndarray
    box: tuple[int, int, int, int]


def draw(fonts: str, split: str, index: int, size: int, difficulty: int, classes: int = len(CLASSES)) -> Drawn:
    """Draws an image. It depends only on the arguments and the versions of the fonts, Pillow and NumPy.

    Args:
      fonts: directory of `FONTS`.
      split: one of `SPLITS`.
      index: number of the image, from 0; its class is `label(split, index, classes)`.
      size: height and width in pixels.
      difficulty: a key of `DIFFICULTIES`.
      classes: number of classes; the first of `CLASSES` are used.
    """
    rng, ranges = _rng(split, 0, index), DIFFICULTIES[difficulty]
    while True:
        paper, ink = rng.uniform(0, 255, (2, 3))
        red, green, blue = paper - ink
        difference = 0.299 * red + 0.587 * green + 0.114 * blue  # luma of ITU-R BT.601
        if (difference if ranges.dark else abs(difference)) >= ranges.contrast:
            break

    # Of about the size at which it is painted: plain interpolation of a much larger one would break thin strokes.
    side = int(size * 3 * (ranges.largest / 0.95)) // 4

    def glyph(character: str) -> Image.Image:
        return _glyph(os.path.join(fonts, f"{FONTS[rng.integers(len(FONTS))]}.ttf"), character, side)

    axis = np.linspace(-1, 1, size)[:, None]
    down, right = rng.uniform(-ranges.gradient, ranges.gradient, (2, 3))
    canvas = Image.fromarray((paper + down * axis[:, None] + right * axis).clip(0, 255).astype(np.uint8))
    for _ in range(rng.integers(ranges.clutter, endpoint=True)):
        colour = paper + ranges.clutter_colour * (rng.uniform(0, 255, 3) - paper)
        if rng.random() < 0.5:
            shape = _line(size, rng)
        elif ranges.quarters:
            other = _quarter(glyph(CLASSES[rng.integers(len(CLASSES))]), rng)
            extent = rng.uniform(ranges.extent, ranges.largest) / 2
            shape = _distorted(other, size, extent, ranges, rng)
        else:  # a glyph centred near the image's edge or beyond it
            angle, distance = rng.uniform(0, 2 * math.pi), size * rng.uniform(0.45, 0.65)
            middle = (size / 2 + distance * math.cos(angle), size / 2 + distance * math.sin(angle))
            other = glyph(CLASSES[rng.integers(len(CLASSES))])
            shape = _distorted(other, size, rng.uniform(0.3, 0.7), ranges, rng, middle)
        _paint(canvas, colour, shape)
    extent = rng.uniform(ranges.extent, ranges.largest)
    own = _distorted(glyph(CLASSES[label(split, index, classes)]), size, extent, ranges, rng)
    _paint(canvas, ink, own)
    for _ in range(rng.integers(ranges.strokes, endpoint=True)):
        _paint(canvas, rng.uniform(0, 255, 3), _line(size, rng))

    canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0, ranges.blur) * size / 32))
    noise = rng.uniform(0, ranges.noise) * rng.standard_normal((size, size, 3), np.float32)
    return Drawn(np.rint(noise + np.asarray(canvas)).clip(0, 255).astype(np.uint8), _box(np.asarray(own)))


def _box(coverage: np.ndarray) -> tuple[int, int, int, int]:
    covered = coverage >= coverage.max() / 2  # 127.5 of 255 where a stroke is a pixel wide
    columns, rows = (np.flatnonzero(covered.any(axis=axis)) for axis in (0, 1))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _quarter(glyph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cuts half of the width and half of the height, somewhere, and adds a border of one pixel."""
    width, height = (max(1, side // 2) for side in glyph.size)
    left = int(rng.integers(glyph.width - width, endpoint=True))
    top = int(rng.integers(glyph.height - height, endpoint=True))
    return ImageOps.expand(glyph.crop((left, top, left + width, top + height)), 1)


def _paint(canvas: Image.Image, colour: np.ndarray, shape: Image.Image) -> None:
    canvas.paste(tuple(map(int, colour)), mask=shape)


@functools.cache
def _glyph(path: str, character: str, side: int) -> Image.Image:
    """Returns the character in grey, 255 on 0, its longer side `side` pixels, with a border of one pixel."""
    # Drawn larger and then reduced, because hinting at small sizes depends on FreeType's version.
    mask = _font(path, 4 * side).getmask(character)
    drawn = Image.frombytes("L", mask.size, bytes(mask))
    drawn = drawn.crop(drawn.getbbox())
    width, height = (max(1, round(length * side / max(drawn.size))) for length in drawn.size)
    # The border is for interpolation: without it, edges would be jagged after a transformation.
    return ImageOps.expand(drawn.resize((width, height), Image.Resampling.BOX), 1)


@functools.cache
def _font(path: str, em: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, em, layout_engine=ImageFont.Layout.BASIC)


def _distorted(
    glyph: Image.Image,
    size: int,
    extent: float,
    ranges: Difficulty,
    rng: np.random.Generator,
    middle: tuple[float, float] | None = None,
) -> Image.Image:
    """Places a glyph in a grey image [size, size]: around `middle`, or at a random position entirely inside."""
    angle = math.radians(rng.uniform(-ranges.rotation, ranges.rotation))
    shear = rng.uniform(-ranges.shear, ranges.shear)
    stretch = math.sqrt(ranges.stretch ** rng.uniform(-1, 1))
    cos, sin = math.cos(angle), math.sin(angle)
    # Rotation times shear times stretch.
    xx, xy = cos * stretch, (cos * shear - sin) / stretch
    yx, yy = sin * stretch, (sin * shear + cos) / stretch
    width, height = glyph.size
    box = np.array([abs(xx) * width + abs(xy) * height, abs(yx) * width + abs(yy) * height])
    scale = extent * size / box.max()
    x, y = middle or rng.uniform(scale * box / 2, size - scale * box / 2)
    # Pillow needs the inverse, from the pixels of the result to those of the glyph.
    determinant = scale * (xx * yy - xy * yx)
    xx, xy, yx, yy = yy / determinant, -xy / determinant, -yx / determinant, xx / determinant
    back = (xx, xy, width / 2 - xx * x - xy * y, yx, yy, height / 2 - yx * x - yy * y)
    return glyph.transform((size, size), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)


def _line(size: int, rng: np.random.Generator) -> Image.Image:
    """Draws a straight line in a grey image [size, size], its thickness 0.025 to 0.1 of the side."""
    twice = Image.new("L", (2 * size, 2 * size))  # reduced below, because Pillow's lines have jagged edges
    ends = rng.uniform(0, 2 * size, 4).tolist()
    ImageDraw.Draw(twice).line(ends, fill=255, width=round(2 * size * rng.uniform(0.025, 0.1)))
    return twice.reduce(2)


def encoded_images(
    fonts: str, split: str, count: int, size: int, difficulty: int, workers: int, classes: int = len(CLASSES)
) -> Iterator[tuple[bytes, tuple[int, int, int, int]]]:
    """Yields the first `count` images of a split as PNG, with their boxes, the same for any number of workers.

    Args:
      fonts: see `draw`.
      split: see `draw`.
      count: number of images.
      size: see `draw`.
      difficulty: see `draw`.
      workers: number of worker processes; 1: this process draws all images. Workers are plain commands that run this
        file. `multiprocessing` would fork them, which is dangerous with JAX's threads, or spawn them, and then import
        the caller's main module, and JAX with this package.
      classes: see `draw`.

    Raises:
      RuntimeError: a worker has failed; its traceback is on stderr.
    """
    if workers == 1:
        yield from (_encoded(fonts, split, index, size, difficulty, classes) for index in range(count))
        return
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # else NumPy starts one thread per core in each worker
    pool = []
    try:
        for first in range(workers):
            work = (fonts, split, first, count, workers, size, difficulty, classes)
            command = [sys.executable, "-P", __file__, *map(str, work)]
            pool.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment))
        for index in range(count):
            # A worker waits while its pipe is full, so none is far ahead.
            pipe: Any = pool[index % workers].stdout
            head = pipe.read(8)
            length = int.from_bytes(head[4:], "little")
            data = pipe.read(length)
            if not data or len(data) < length:
                raise RuntimeError(f"the process that draws image {index} of {split!r} has ended")
            xmin, ymin, xmax, ymax = head[:4]
            yield data, (xmin, ymin, xmax, ymax)
    finally:
        for worker in pool:
            worker.kill()
            worker.communicate()


def _encoded(*arguments) -> tuple[bytes, tuple[int, int, int, int]]:
    png, drawn = io.BytesIO(), draw(*arguments)
    # Noise hardly compresses: a higher level takes longer and saves 2 %.
    Image.fromarray(drawn.pixels).save(png, "PNG", compress_level=1)
    return png.getvalue(), drawn.box


def _work() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent process, which ends this one
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end silently with the parent process
    fonts, split, *numbers = sys.argv[1:]
    first, count, step, size, difficulty, classes = map(int, numbers)
    for index in range(first, count, step):
        data, box = _encoded(fonts, split, index, size, difficulty, classes)
        sys.stdout.buffer.write(bytes(box) + len(data).to_bytes(4, "little") + data)  # a side has 96 pixels at most
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _work()
