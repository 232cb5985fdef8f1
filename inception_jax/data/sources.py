"""Random-access sources of labelled images: image folders, TFDS datasets, synthetic noise."""

import concurrent.futures
import contextlib
import copy
import difflib
import os
import re
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from etils import epath

from inception_jax.data.decoding import decode_image, open_image, read_file
from inception_jax.data.image_files import directories, image_files, is_folder
from inception_jax.data.tfds_directory import check_metadata, default_directory, expanded
from inception_jax.errors import UserError, needs_extra
from inception_jax.names import check_utf8, readable, text_of
from inception_jax.paths import bucket_errors, check_bucket, is_bucket, read_objects, reason

_LISTINGS = 32  # classes that are listed at once in a bucket


class Source(Protocol):
    """Labelled images by index, as returned by `open_source`. Safe to read from many threads, and picklable.

    Names of classes and images are texts of `names.readable`, which are the same in every locale.

    A source of image files has another method, `encoded(index) -> (bytes, label)`, which returns the content of the
    file or raises DamagedImage. The loader prefers it, so as to decode no more than needed.

    A source of files that may be far away has a method `read_ahead(indices)`, which reads these files at once and
    returns a source that has their contents.

    `resident.KeptSource` has a method `opened(index)`, which returns an image as the loader takes it, and its label.

    The boxes of objects are those of the image's class, see `boxes`.
    """

    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Returns the number of images."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Returns the image, uint8 [H, W, 3], and its label, an index into `class_names`; or raises DamagedImage."""

    def name(self, index: int) -> str:
        """Returns what reports call the image: its path below the folder, or for instance 'mnist/train[17]'."""

    def file_name(self, index: int) -> str:
        """Returns the name of the image's file, such as 'ILSVRC2012_val_00000017.JPEG'; '' if it has none."""

    def label(self, index: int) -> int:
        """Returns the label of an image without reading its pixels."""

    def boxes(self, index: int) -> np.ndarray:
        """Returns the boxes of an image's objects, float32 [k, 4], see `boxes`; raises UserError if there are none."""

    @property
    def fingerprint(self) -> str:
        """A string that changes when the images or labels change."""


def open_source(name: str, split: str, data_dir: str = "") -> Source:
    """Opens one split of a dataset; downloads nothing.

    Args:
      name: one of
        'folder': images in DATA_DIR/SPLIT/CLASS/, on a disk or in a bucket;
        'synthetic': noise;
        'digits': scikit-learn's handwritten digits;
        'glyphs', or for instance 'glyphs/size=48,train=50000,difficulty=1': drawn characters;
        'textures', or for instance 'textures/size=64,difficulty=2': drawn textures;
        any other name: a TFDS dataset that is prepared as ArrayRecord and has the features 'image' and 'label', such as
        'mnist' or 'imagenet2012:5.1.0'.
        'digits', 'glyphs' and 'textures' are written to `data_dir` if they are missing.
      split: name of a split; for a TFDS dataset also a slice, such as 'train[:10%]'. Ignored by 'synthetic'.
      data_dir: the image folder (also gs:// or s3://), or TFDS's directory ('' for its default, $TFDS_DATA_DIR or
        ~/tensorflow_datasets; also gs://).

    Raises:
      UserError: the dataset or split does not exist, or cannot be used as it is.
    """
    if name == "folder":
        return FolderSource(data_dir, split)
    if name == "synthetic":
        return SyntheticSource()
    return TFDSSource(name, split, data_dir)


def known_names() -> set[str]:
    """Returns the names of datasets that `open_source` knows without looking at files."""
    own = {"folder", "synthetic", "digits", "glyphs", "textures"}
    return own.union(_tfds().list_builders(with_community_datasets=False))


def _tfds():
    """Imports TFDS: not at the top, because it is an extra, and slow."""
    with needs_extra("tfds"):
        import tensorflow_datasets

    return tensorflow_datasets


def check_same_classes(train: Source, evaluation: Source) -> None:
    """Raises UserError unless both sources have the same classes in the same order."""
    if train.class_names == evaluation.class_names:
        return
    differences = []
    for side, one, other in (("training", train, evaluation), ("evaluation", evaluation, train)):
        only = sorted(set(one.class_names) - set(other.class_names))
        if only:
            differences.append(f"only the {side} data have {_first_few(only)}")
    raise UserError(
        "the classes of the training and evaluation data differ: "
        + ("; ".join(differences) or "the same names come in another order")
        + "; make them the same"
    )


class SourceWrapper:
    """A source that is another one, but for what a subclass changes."""

    def __init__(self, source: Source):
        """Wraps a source."""
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str):
        if name.startswith("_"):  # asked for by pickle, before there is a source
            raise AttributeError(name)
        return getattr(self._source, name)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._source[index]


class Subset:
    """Selects some images of a source, by their indices."""

    def __init__(self, source: Source, indices: list[int]):
        self._source, self._indices = source, indices
        self.class_names = source.class_names

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._source[self._indices[index]]

    def __getattr__(self, name: str):
        """Has what only some sources have: `encoded`, `opened` and `read_ahead`."""
        if name not in ("encoded", "opened", "read_ahead"):
            raise AttributeError(name)
        of_source = getattr(self._source, name)
        if name != "read_ahead":
            return lambda index: of_source(self._indices[index])
        return lambda indices: Subset(of_source([self._indices[index] for index in indices]), self._indices)

    def name(self, index: int) -> str:
        """Returns the image's name in the whole source."""
        return self._source.name(self._indices[index])

    def file_name(self, index: int) -> str:
        """Returns the name of the image's file."""
        return self._source.file_name(self._indices[index])

    def label(self, index: int) -> int:
        """Returns the label of an image."""
        return self._source.label(self._indices[index])

    def boxes(self, index: int) -> np.ndarray:
        """Returns the boxes of an image."""
        return self._source.boxes(self._indices[index])

    @property
    def fingerprint(self) -> str:
        """Depends on the whole source and the indices."""
        return f"{self._source.fingerprint} {zlib.crc32(np.array(self._indices, np.int64).data):08x}"


class FolderSource:
    """Reads the images in ROOT/SPLIT/CLASS/, at any depth, of a disk or of a bucket.

    A label is the index of the class among the sorted names of all class directories (see `names.readable`). Images are
    files with a suffix of IMAGE_SUFFIXES, in upper or lower case, sorted by class and path. Hidden files and
    directories are ignored.

    A bucket is listed when the source is opened. An object that is missing later counts as damaged; if the bucket
    cannot be read, a UserError says so.
    """

    def __init__(self, root: str, split: str):
        if not root:
            raise UserError("dataset 'folder' needs a directory: the one with SPLIT/CLASS/*.jpg")
        if is_bucket(root):
            check_bucket(root)
            self._root = root.rstrip("/")
        else:
            self._root = os.path.expanduser(root)
        if not is_folder(self._root):
            raise UserError(f"there is no directory {self._root}")
        directory = os.path.join(self._root, split)
        if not split or not is_folder(directory):
            splits = ", ".join(directories(self._root)) or "none"
            raise UserError(f"{self._root} has no directory for the split {split!r}; its directories are: {splits}")

        classes = _classes(directory)
        self.class_names = tuple(classes)
        with concurrent.futures.ThreadPoolExecutor(_LISTINGS if is_bucket(root) else 1) as pool:
            below = [os.path.join(directory, name) for name in classes.values()]
            images = list(pool.map(lambda folder: image_files(folder, _raise), below))
        if not any(images):
            raise UserError(f"{directory} has no images; they must be in {os.path.join(directory, 'CLASS', '*.jpg')}")
        if len(self.class_names) == 1:
            raise UserError(f"{directory} has only one class, {self.class_names[0]!r}; a classifier needs at least two")
        empty = [name for name, paths in zip(self.class_names, images, strict=True) if not paths]
        if empty:
            raise UserError(
                f"{directory} has classes without images: {_first_few(empty)}; add images or remove the directories"
            )
        below_root = len(os.path.join(self._root, ""))  # a slice, because os.path.relpath takes 20 s for ImageNet
        self._paths = [path[below_root:] for paths in images for path in paths]
        self._labels = np.repeat(np.arange(len(images)), [len(paths) for paths in images])
        self._contents: dict[int, bytes | None] = {}  # read ahead
        self._listed = ""  # the fingerprint, if the listing had what it depends on
        if is_bucket(root):
            versions = [version for paths in images for version in paths.values()]
            self._listed = self._checksum(map(repr, zip(map(text_of, self._paths), versions, strict=True)))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        data, label = self.encoded(index)
        return decode_image(data, self.name(index)), label

    def encoded(self, index: int) -> tuple[bytes, int]:
        """Returns the content of the image's file and its label; raises DamagedImage if it cannot be read."""
        data = self._contents.get(index)
        if data is None:
            data = read_file(os.path.join(self._root, self._paths[index]), self.name(index))
        return data, int(self._labels[index])

    def read_ahead(self, indices: Sequence[int]) -> "FolderSource":
        """Returns a source that has the contents of some images, if this one is in a bucket."""
        if not is_bucket(self._root):
            return self
        ahead = copy.copy(self)
        addresses = [f"{self._root}/{text_of(self._paths[index])}" for index in indices]
        ahead._contents = dict(zip(indices, read_objects(addresses), strict=True))
        return ahead

    def name(self, index: int) -> str:
        """Returns the image's path below the root."""
        return readable(text_of(self._paths[index]))

    def file_name(self, index: int) -> str:
        """Returns the last part of the path."""
        return os.path.basename(self.name(index))

    def label(self, index: int) -> int:
        """Returns the number of the image's directory."""
        return int(self._labels[index])

    def boxes(self, index: int) -> np.ndarray:  # noqa: ARG002
        """Raises UserError."""
        raise UserError(f"{self._root} has no boxes")

    @property
    def fingerprint(self) -> str:
        """Depends on the paths, sizes and modification times of all files; in a bucket on checksums, not on times."""
        return self._listed or self._checksum(map(self._known_of, self._paths))

    def _known_of(self, path: str) -> str:
        try:
            status = os.stat(os.path.join(self._root, path))
        except OSError:  # a broken link
            return repr((text_of(path), None))
        return repr((text_of(path), (status.st_size, status.st_mtime_ns)))

    def _checksum(self, of_files: Iterable[str]) -> str:
        checksum = zlib.crc32(repr(self.class_names).encode())
        for known in of_files:
            checksum = zlib.crc32(known.encode(), checksum)
        return f"folder of {len(self)}, {checksum:08x}"


class SyntheticSource:
    """Makes 1,280 images of 256 x 256 noise in 1,000 classes, always the same, in almost no time.

    For measuring a device without its input, and for tests. The labels are unrelated to the images.
    """

    class_names = tuple(f"class_{label}" for label in range(1000))

    def __init__(self):
        self._noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)

    def __len__(self) -> int:
        return 1280

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        index = range(len(self))[index]  # raises IndexError
        return np.roll(self._noise, divmod(index, 256), axis=(0, 1)), index % len(self.class_names)

    def name(self, index: int) -> str:
        """Returns for instance 'synthetic[17]'."""
        return f"synthetic[{index}]"

    def file_name(self, index: int) -> str:  # noqa: ARG002
        """Returns ''."""
        return ""

    def label(self, index: int) -> int:
        """Returns the label of an image."""
        return self[index][1]

    def boxes(self, index: int) -> np.ndarray:  # noqa: ARG002
        """Raises UserError."""
        raise UserError("dataset 'synthetic' has no boxes")

    fingerprint = "synthetic"


class TFDSSource:
    """Reads a split of a TFDS dataset that is prepared as ArrayRecord, without TensorFlow."""

    def __init__(self, name: str, split: str, data_dir: str = ""):
        tfds = _tfds()
        directory = data_dir or default_directory()
        if is_bucket(directory):
            _check_readable(directory)
        with bucket_errors(epath.Path(directory)):
            builder = _tfds_builder(name, data_dir)
        self._bucket = os.fspath(builder.data_path) if is_bucket(builder.data_path) else ""
        self._ahead: dict[int, dict] = {}  # records that were read ahead
        features = dict(builder.info.features.items())
        image, label = features.get("image"), features.get("label")
        if not (isinstance(image, tfds.features.Image) and image.np_dtype in (np.uint8, np.uint16)):
            raise UserError(f"dataset {name!r} cannot be used: it has no feature 'image' with 8- or 16-bit images")
        if not isinstance(label, tfds.features.ClassLabel):
            raise UserError(f"dataset {name!r} cannot be used: it has no feature 'label' with classes")
        self.class_names = tuple(map(readable, label.names))
        self._box_feature = _box_feature(features)
        self._shape = image.shape

        # Raw bytes, because decode_image is thread-safe, treats all sources alike, and names a damaged image.
        skip = {
            key: tfds.decode.SkipDecoding() for key, value in features.items() if isinstance(value, tfds.features.Image)
        }
        try:
            self._records = builder.as_data_source(split, decoders=skip, file_format="array_record")
            if len(self._records) == 0:  # for a slice such as [5:3] the length is negative, and len raises ValueError
                raise ValueError
        except ValueError:
            splits = ", ".join(f"{split} ({info.num_examples})" for split, info in builder.info.splits.items())
            raise UserError(
                f"dataset {name!r} has no split {split!r}; it has {splits}, and slices of them such as 'train[:10%]'"
            ) from None
        self._name, self._version, self._split = f"{name}/{split}", builder.info.full_name, split
        if self._record(0)["label"] < 0:  # in TFDS: labels that were never published
            raise UserError(f"{self._name} has no labels: choose another split, such as 'validation'")

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        data, label = self.encoded(index)
        return decode_image(data, self.name(index)), label

    def encoded(self, index: int) -> tuple[bytes, int]:
        """Returns the encoded image and its label."""
        record = self._record(range(len(self))[index])  # range raises IndexError; the reader would raise ValueError
        return record["image"], int(record["label"])

    def read_ahead(self, indices: Sequence[int]) -> "TFDSSource":
        """Returns a source that has some records, if this one is in a bucket."""
        if not self._bucket:
            return self
        ahead = copy.copy(self)
        with self._reading():
            ahead._ahead = dict(zip(indices, self._records.__getitems__(indices), strict=True))
        return ahead

    def _record(self, index: int) -> dict:
        if index in self._ahead:
            return self._ahead[index]
        with self._reading():
            return self._records[index]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # ArrayRecord raises nothing else
            if not self._bucket:
                raise
            raise UserError(f"{self._bucket} cannot be read: {reason(error)}") from None

    def name(self, index: int) -> str:
        """Returns for instance 'imagenet2012/train[17]'."""
        return f"{self._name}[{index}]"

    def file_name(self, index: int) -> str:
        """Returns the record's feature 'file_name', '' if it has none."""
        name = self._record(index).get("file_name", b"")
        return name.decode() if isinstance(name, bytes) else str(name)

    def label(self, index: int) -> int:
        """Returns the label of an image."""
        return self.encoded(index)[1]

    def boxes(self, index: int) -> np.ndarray:
        """Returns the boxes of the feature 'bbox', or those of 'objects'.

        TFDS has fractions of the image's sides, which count from its edge: 0 to 0.5 of 10 pixels are the pixels 0 to 4.
        They are rounded to a hundredth of a pixel, because float32 has no more digits of a fraction.
        """
        if not self._box_feature:
            raise UserError(f"{self._name} has no boxes: no feature 'bbox' or 'objects/bbox' with fractions of sides")
        record = self._record(range(len(self))[index])
        fractions = record["bbox"] if self._box_feature == "bbox" else record["objects"]["bbox"]
        height, width = self._shape[:2]
        if height is None or width is None:
            height, width = open_image(record["image"], self.name(index)).shape[:2]
        sides = np.asarray(fractions, np.float64).reshape(-1, 4) * (height, width, height, width)
        ymin, xmin, ymax, xmax = np.round(sides, 2).T
        return np.stack([xmin, ymin, np.maximum(xmax - 1, xmin), np.maximum(ymax - 1, ymin)], axis=1).astype(np.float32)

    @property
    def fingerprint(self) -> str:
        """Depends on the dataset, its version, the split and its length."""
        return f"{self._version} {self._split}, {len(self)}"


def _box_feature(features: dict) -> str:
    """Returns 'bbox' or 'objects', the feature that has boxes; '' if there is none."""
    tfds = _tfds()

    def relative(feature) -> bool:
        # Its attribute is an enum, or None if the format is not known.
        return (
            isinstance(feature, tfds.features.BBoxFeature) and getattr(feature.bbox_format, "value", None) == "REL_YXYX"
        )

    if relative(features.get("bbox")):
        return "bbox"
    objects = getattr(features.get("objects"), "feature", None)
    if not isinstance(objects, tfds.features.FeaturesDict):
        return ""
    return "objects" if "bbox" in objects and relative(objects["bbox"]) else ""


def _tfds_builder(name: str, data_dir: str):
    """Returns the builder of a prepared dataset, or raises UserError."""
    if name == "digits":
        from inception_jax.data.digits import prepared_digits

        return prepared_digits(data_dir)
    if glyphs := re.fullmatch(r"glyphs\b/?(.*)", name, re.DOTALL):
        from inception_jax.data.glyphs import prepared_glyphs

        return prepared_glyphs(glyphs[1], data_dir)
    if textures := re.fullmatch(r"textures\b/?(.*)", name, re.DOTALL):
        from inception_jax.data.textures import prepared_textures

        return prepared_textures(textures[1], data_dir)
    root = expanded(data_dir or default_directory()).rstrip("/")
    check_utf8(root)
    tfds = _tfds()
    try:
        # Only NAME[/CONFIG][:VERSION]: TFDS looks up community namespaces (kubric:movi_a) on the network.
        if not re.fullmatch(r"\w+(/[^:]+)?(:[\d.*]+)?", name):
            raise tfds.core.DatasetNotFoundError
        check_metadata(epath.Path(root) / re.split("[/:]", name)[0])
        builder = tfds.builder(name, data_dir=root)
    except tfds.core.DatasetNotFoundError:
        nearest = difflib.get_close_matches(re.split("[/:]", name)[0].lower(), known_names())
        hint = f"did you mean {', '.join(nearest)}?" if nearest else "see https://www.tensorflow.org/datasets/catalog"
        raise UserError(f"there is no dataset {name!r}; {hint}") from None
    except UserError:
        raise
    except (ValueError, AssertionError, tfds.core.dataset_info.DatasetInfoFileError) as error:
        # An unknown config or version, or a directory whose preparation was not completed.
        reason = textwrap.shorten(str(error).rpartition('": ')[2], 300)  # without "Failed to construct ..."
        raise UserError(f"TFDS cannot open {name!r}: {reason}") from None

    if not (builder.data_path / "dataset_info.json").exists() and is_bucket(root):
        raise UserError(
            f"dataset {name!r} is not prepared in {root}; prepare it in a local directory, and copy that to the bucket"
        )
    if not (builder.data_path / "dataset_info.json").exists():
        manual = ""
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
            manual = f" (first fill manual_dir, {root}/downloads/manual: {instructions})"
        raise UserError(
            f"dataset {name!r} is not prepared in {root}; prepare it with: " + _prepare_command(name, root) + manual
        )
    formats = sorted(file_format.value for file_format in builder.info.available_file_formats())
    if "array_record" not in formats:
        raise UserError(
            f"dataset {name!r} is prepared in {root} as {', '.join(formats)}, without random access; "
            "prepare it as ArrayRecord in another directory with: " + _prepare_command(name, f"{root}_array_record")
        )
    return builder


def _check_readable(directory: str) -> None:
    """Checks that array_record can read from a bucket: it has a reader of Cloud Storage, which needs credentials.

    Without them it would look for them for up to 15 minutes.
    """
    if not directory.startswith("gs://"):
        raise UserError(
            f"{directory} cannot hold a TFDS dataset: ArrayRecord files are read from gs:// or a local directory; "
            "copy the dataset to one of these, or mount the bucket"
        )
    check_bucket(directory)
    if not os.environ.get("CLOUD_STORAGE_EMULATOR_ENDPOINT"):
        import google.auth

        try:
            google.auth.default()
        except google.auth.exceptions.GoogleAuthError as error:
            raise UserError(f"{directory} cannot be read: {reason(error)}") from None


def _prepare_command(name: str, data_dir: str) -> str:
    # Not `tfds build`, which does the same but needs Apache Beam.
    return (
        f'python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}, data_dir={data_dir!r},'
        f" file_format='array_record').download_and_prepare()\""
    )


def _classes(parent: str) -> dict[str, str]:
    """Returns {class name: directory}, sorted by class name."""
    classes: dict[str, str] = {}
    for directory in directories(parent):
        name = readable(text_of(directory))
        if name in classes:  # written as on macOS and as on Linux; merging could hide images that were copied twice
            both = " and ".join(sorted(ascii(text_of(one)) for one in (classes[name], directory)))
            raise UserError(f"{parent} has two directories for the class {name!r}, {both}; move the images into one")
        classes[name] = directory
    return dict(sorted(classes.items()))


def _raise(error: OSError) -> None:
    raise error


def _first_few(names: list[str], few: int = 5) -> str:
    return ", ".join(names[:few]) + (f", ... ({len(names)} in all)" if len(names) > few else "")
