import io
import itertools
import os
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from inception_jax.data import sources
from inception_jax.data.boxes import BoxedSource, Object, iou, pixels_of, read_boxes, read_xml
from inception_jax.errors import UserError

# As in ILSVRC's Annotations/CLS-LOC/val.
XML = """<annotation>
	<folder>val</folder>
	<filename>ILSVRC2012_val_00000001</filename>
	<source><database>ILSVRC_2012</database></source>
	<size><width>500</width><height>375</height><depth>3</depth></size>
	<segmented>0</segmented>
	<object>
		<name>n01751748</name>
		<pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
		<bndbox><xmin>111</xmin><ymin>108</ymin><xmax>441</xmax><ymax>193</ymax></bndbox>
	</object>
	<object>
		<name>n01751748</name>
		<bndbox><xmin>0</xmin><ymin>5.5</ymin><xmax>0</xmax><ymax>6</ymax></bndbox>
		<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
	</object>
</annotation>"""


@pytest.fixture
def folder(tmp_path):
    """Two classes of a split 'val', with two images each of the same names."""
    for label, name in itertools.product(("n01440764", "n01751748"), ("0.JPEG", "x.1.png")):
        path = tmp_path / "images" / "val" / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(path)
    return sources.FolderSource(str(tmp_path / "images"), "val")


def test_iou_of_inclusive_pixels():
    box = np.array([10, 10, 19, 19])  # 10 x 10 pixels
    for other, expected in (
        ([10, 10, 19, 19], 1),
        ([10, 10, 19, 14], 0.5),  # its upper half: exactly one half
        ([15, 10, 24, 19], 50 / 150),
        ([19, 19, 28, 28], 1 / 199),  # one pixel
        ([20, 10, 29, 19], 0),  # side by side
        ([30, 30, 39, 39], 0),
        ([12, 13, 12, 13], 1 / 100),
    ):
        assert iou(box, np.array(other, np.float32)) == expected
        assert iou(np.array(other), box) == expected
    grid = iou(np.array([box, box + 5])[:, None], np.array([box, box + 5, box + 50]))
    np.testing.assert_array_equal(grid, [[1, 25 / 175, 0], [25 / 175, 1, 0]])
    assert pixels_of(np.array([0, 0, 2, 1])) == 6


class TestXml:
    def test_ilsvrc(self):
        assert read_xml(XML.encode(), "x.xml") == [
            Object("n01751748", (111, 108, 441, 193)),
            Object("n01751748", (0, 5.5, 0, 6)),
        ]
        assert read_xml(b"<annotation/>", "x.xml") == []

    def test_other_encodings(self):
        xml = XML.replace("n01751748", "Käfer")
        assert read_xml(b'<?xml version="1.0" encoding="latin-1"?>' + xml.encode("latin-1"), "x")[0].label == "Käfer"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no element found"),
            (b"\xff\xd8\xff", "not well-formed"),
            (XML.encode()[:300], "no element found"),
            (b'<!DOCTYPE a [<!ENTITY a "aa">]>' + XML.encode(), "it has a document type, which could contain entities"),
            (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>" + XML.encode(), "it has a document type"),
            (XML.replace("111", "&x;").encode(), "undefined entity"),
            (b"<a>" * 40, "it is too deep"),
            (b" " * (1 << 20) + XML.encode(), "it has more than 1,048,576 bytes"),
            (b'<?xml version="1.0" encoding="klingon"?>' + XML.encode(), "unknown encoding"),
        ],
    )
    def test_what_is_no_annotation(self, content, message):
        with pytest.raises(UserError, match=rf"^x\.xml is no annotation in PASCAL VOC's format: .*{message}"):
            read_xml(content, "x.xml")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("<xmin>111</xmin>", "", "object 1 has no xmin"),
            ("<name>n01751748</name>", "", "object 1 has no name"),
            (">111<", ">left<", "object 1 has a box that is not four numbers: left, 108, 441, 193"),
            (">111<", ">nan<", "object 1 has a box that is not four numbers"),
            (">111<", ">1e999<", "object 1 has a box that is not four numbers"),
            (">111<", ">442<", r"object 1 has no box \(442, 108\) to \(441, 193\)"),
            (">441<", ">1e30<", "object 1 has no box"),
        ],
    )
    def test_a_wrong_object(self, old, new, message):
        with pytest.raises(UserError, match=rf"^x\.xml: {message}"):
            read_xml(XML.replace(old, new, 1).encode(), "x.xml")

    def test_directory(self, tmp_path):
        for name in ("b/ILSVRC2012_val_00000002.xml", "ILSVRC2012_val_00000001.XML"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(XML, encoding="utf-8")
        assert {name: len(found) for name, found in read_boxes(tmp_path).items()} == {
            "ILSVRC2012_val_00000001": 2,
            "b/ILSVRC2012_val_00000002": 2,
        }

    def test_directories_that_cannot_be_read(self, tmp_path):
        with pytest.raises(UserError, match=r"has no \.xml files"):
            read_boxes(tmp_path)
        os.mkfifo(tmp_path / "pipe.xml")
        with pytest.raises(UserError, match=r"pipe\.xml is not a regular file"):
            read_boxes(tmp_path)
        with pytest.raises(UserError, match="missing does not exist"):
            read_boxes(tmp_path / "missing")


class TestCsv:
    def test_with_and_without_a_header_and_labels(self, tmp_path):
        file = tmp_path / "boxes.csv"
        file.write_bytes(
            b"\xef\xbb\xbfimage,xmin,ymin,xmax,ymax,label\r\na/0.JPEG,1,2,3,4,cat\r\n\r\na/0.JPEG, 5,6,7,8\r\n"
        )
        assert read_boxes(file) == {"a/0": [Object("cat", (1, 2, 3, 4)), Object("", (5, 6, 7, 8))]}
        file.write_text("ILSVRC2012_val_00000001,1,2,3,4\nx.1.png,0,0,0,0.5\n", encoding="utf-8")
        assert read_boxes(file) == {
            "ILSVRC2012_val_00000001": [Object("", (1, 2, 3, 4))],
            "x.1": [Object("", (0, 0, 0, 0.5))],
        }

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "has no boxes"),
            (b"image,xmin,ymin,xmax,ymax\n", "has no boxes"),
            (b"a,1,2,3\n", r"row 1, does not have the columns image, xmin, ymin, xmax, ymax\[, label\]"),
            (b"a,1,2,3,4,b,c\n", "row 1, does not have the columns"),
            (b",1,2,3,4\n", "row 1, does not have the columns"),
            (b"a,1,2,3,4\nb,1,2,three,4\n", "row 2, has a box that is not four numbers: 1, 2, three, 4"),
            (b"a,1,2,0,4\n", r"row 1, has no box \(1, 2\) to \(0, 4\)"),
            (b"\x89PNG\r\n\x1a\n\0\0", "is no CSV file: 'utf-8' codec"),
            (b"a," + b"1" * 200_000 + b",2,3,4\n", "is no CSV file: field larger than field limit"),
        ],
    )
    def test_what_is_no_csv_of_boxes(self, content, message, tmp_path):
        (tmp_path / "boxes.csv").write_bytes(content)
        with pytest.raises(UserError, match=rf"boxes\.csv,? {message}"):
            read_boxes(tmp_path / "boxes.csv")

    def test_a_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UserError, match="pipe is neither a file nor a directory"):
            read_boxes(tmp_path / "pipe")


class TestBoxedSource:
    def test_by_whole_names_or_by_file_names_if_only_one_has_it(self, folder, tmp_path):
        file = tmp_path / "boxes.csv"
        lines = ["val/n01440764/0.JPEG,0,0,1,1", "val/n01751748/0.JPEG,2,2,3,3,n01751748", "elsewhere/x.1,4,4,5,5"]
        file.write_text("\n".join(lines), encoding="utf-8")
        source = pickle.loads(pickle.dumps(BoxedSource(folder, file)))
        assert [source.name(i)[4:] for i in range(4)] == [
            f"{label}/{name}" for label in ("n01440764", "n01751748") for name in ("0.JPEG", "x.1.png")
        ]
        assert [source.boxes(i).tolist() for i in range(4)] == [
            [[0, 0, 1, 1]],
            [[4, 4, 5, 5]],
            [[2, 2, 3, 3]],
            [[4, 4, 5, 5]],
        ]
        assert source.boxes(0).dtype == np.float32
        assert (len(source), source[3][1], source.fingerprint) == (4, 1, folder.fingerprint)
        assert source.encoded(3) == folder.encoded(3)  # what the loader prefers
        assert BoxedSource(sources.Subset(folder, [1]), file).encoded(0) == folder.encoded(1)
        assert not hasattr(sources.Subset(sources.SyntheticSource(), [1]), "encoded")

    def test_boxes_of_other_classes_do_not_count(self, folder, tmp_path):
        file = tmp_path / "boxes.csv"
        file.write_text("val/n01440764/0,0,0,1,1,b\nval/n01440764/0,0,0,2,2,a\nval/n01751748/0,0,0,1,1\n", "utf-8")
        source = BoxedSource(folder, file)
        with pytest.raises(UserError, match=r"no box of class 'n01440764' in val/n01440764/0.JPEG, only of a, b$"):
            source.boxes(0)
        with pytest.raises(UserError, match=r"no box of class 'n01440764' in val/n01440764/x.1.png$"):
            source.boxes(1)

    def test_class_names_with_a_word_net_number(self, folder, tmp_path):
        file = tmp_path / "boxes.csv"
        file.write_text("val/n01440764/0,0,0,1,1,n01440764\n", encoding="utf-8")
        folder.class_names = ("n01440764 tench", "n01751748 sea snake")
        assert BoxedSource(folder, file).boxes(0).tolist() == [[0, 0, 1, 1]]
        folder.class_names = ("n01440764x tench", "n01751748 sea snake")
        with pytest.raises(UserError, match="no box of class 'n01440764x tench'"):
            BoxedSource(folder, file).boxes(0)

    def test_boxes_of_other_images(self, folder, tmp_path):
        (tmp_path / "boxes.csv").write_text("a,0,0,1,1\n", encoding="utf-8")
        with pytest.raises(UserError, match=r"of 1 images, such as 'a', but of none of these, such as 'val/n0144"):
            BoxedSource(folder, tmp_path / "boxes.csv")


class Objects(tfds.core.GeneratorBasedBuilder):
    """As stanford_dogs: as many objects as the number of the image, in images of 30 x 20 pixels."""

    name = "stanford_dogs"
    VERSION = tfds.core.Version("0.2.0")
    code_path = None

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(names=["a", "b"]),
                "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()}),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for count in range(3):
            png = io.BytesIO()
            Image.new("RGB", (30, 20)).save(png, "PNG")
            png.seek(0)
            boxes = [tfds.features.BBox(0.1, 0.2, 0.5, 1.0), tfds.features.BBox(0.0, 0.5, 0.01, 0.5)]
            yield count, {"image": png, "label": 1, "objects": [{"bbox": box} for box in boxes[:count]]}


def test_tfds(tmp_path):
    Objects(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    source = sources.open_source("stanford_dogs:0.2.0", "train", str(tmp_path))
    assert [source.boxes(i).tolist() for i in range(3)] == [
        [],
        [[6, 2, 29, 9]],
        [[6, 2, 29, 9], [15, 0, 15, 0]],  # less than a pixel
    ]
    assert source.boxes(0).shape == (0, 4)
    assert sources.Subset(source, [2]).boxes(0).shape == (2, 4)
    assert sources.Subset(source, [2]).label(0) == 1


def test_sources_without_boxes(folder, tmp_path):
    for source, message in (
        (folder, "images has no boxes$"),
        (sources.open_source("synthetic", ""), "dataset 'synthetic' has no boxes"),
        (sources.open_source("digits", "test", str(tmp_path)), "digits/test has no boxes: no feature 'bbox'"),
    ):
        with pytest.raises(UserError, match=message):
            source.boxes(0)
        assert source.label(0) == source[0][1]
