import json

import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.evaluation.selection import output_of_classes, read_multilabels, read_subset

# In another order than their numbers.
CHALLENGE = ("ILSVRC2012_val_00000017.JPEG", "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG")
PLAIN = ("owl.png", "cat.jpg", "dog")
NAMELESS = ("", "", "")


@pytest.fixture
def file(tmp_path):
    """Writes a file: a text, or anything else as JSON."""

    def write(content):
        path = tmp_path / "file"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def message(function, *arguments) -> str:
    """Of the UserError, which is one line."""
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("names", "text", "chosen"),
    [
        (PLAIN, "cat.jpg\n", [1]),
        (("caf\u00e9.png", "te\u0301.png"), "cafe\u0301.png\nt\u00e9\n", [0, 1]),  # NFC and NFD are one name
        (PLAIN, "cat\nowl", [0, 1]),
        (PLAIN, "dog.jpeg\n", [2]),  # whatever the suffix
        (PLAIN, "\n  owl \r\n\n\t\ncat\n\n", [0, 1]),
        (PLAIN, "cat\ncat.jpg\n1\n", [1]),
        (PLAIN, "", []),
        (CHALLENGE, "17\n2\n", [0, 2]),
        (CHALLENGE, "00000001\n", [1]),
        (CHALLENGE, "ILSVRC2012_val_00000002\nILSVRC2012_val_00000017.JPEG\n", [0, 2]),
        (PLAIN, "0\n2\n", [0, 2]),
        (NAMELESS, "1\n2\n", [1, 2]),
        (("1.png", "1.png", "2.png"), "0\n", [0]),  # two have the same number: these are places
        (("1.png", "1.png", "2.png"), "2.png\n", [2]),
        (("owl_1.png", "cat.png"), "1\n", [1]),  # one has none: places too
    ],
)
def test_a_line_of_a_subset_is_a_name_or_a_number(file, names, text, chosen):
    subset = read_subset(file(text), names)
    assert subset.dtype == bool
    assert subset.shape == (len(names),)
    np.testing.assert_array_equal(np.flatnonzero(subset), chosen)


@pytest.mark.parametrize(
    ("names", "text", "line"),
    [
        (PLAIN, "cat\n bird.jpg \n", "bird.jpg"),
        (PLAIN, "3", "3"),
        (PLAIN, "-1", "-1"),
        (CHALLENGE, "0", "0"),  # the numbers are the files', not the places
        (CHALLENGE, "3", "3"),
        (NAMELESS, "3", "3"),
        (("1.png", "1.png"), "1.png", "1.png"),  # which of the two?
    ],
)
def test_a_line_that_names_no_image_is_refused(file, names, text, line):
    path = file(text)
    assert message(read_subset, path, names) == f"{path} names {line!r}, which is no image of this split, or several"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "none"
    expected = f"{path} cannot be read: No such file or directory"
    assert message(read_subset, path, PLAIN) == expected
    assert message(read_multilabels, path, PLAIN, 5) == expected
    assert message(output_of_classes, PLAIN, PLAIN, str(path)) == expected
    assert message(read_subset, tmp_path, PLAIN) == f"{tmp_path} cannot be read: Is a directory"
    path.write_bytes(b"\xff\xfe\xff")
    assert message(read_subset, path, PLAIN).startswith(f"{path} cannot be read: 'utf-8' codec")


def test_a_list_of_labels_goes_by_the_numbers_from_one_on(file):
    # Images 17, 1 and 2 of a list of 17, as in real.json.
    content = [[number, number + 1] for number in range(1, 18)]
    assert read_multilabels(file(content), CHALLENGE, 20) == [{17, 18}, {1, 2}, {2, 3}]


@pytest.mark.parametrize("names", [PLAIN, NAMELESS])
def test_a_list_of_labels_goes_by_the_place_where_the_files_have_no_numbers(file, names):
    labels = read_multilabels(file([[4], [0, 2, 2], []]), names, 5)
    assert labels == [{4}, {0, 2}, set()]
    assert all(isinstance(right, frozenset) for right in labels)


@pytest.mark.parametrize("names", [PLAIN, CHALLENGE])
def test_an_object_of_labels_goes_by_the_names(file, names):
    stems = [name.split(".")[0] for name in names]
    content = {"other.jpg": [3], stems[2]: [2], f"{stems[1]}.tiff": [], names[0]: [0, 1]}
    assert read_multilabels(file(content), names, 4) == [{0, 1}, set(), {2}]


@pytest.mark.parametrize("content", [[[0], [5], [1]], [[0], [-1], [1]], {"cat": [4, 5], "dog": [], "owl": []}])
def test_a_label_that_is_no_class_is_refused(file, content):
    path = file(content)
    assert message(read_multilabels, path, PLAIN, 5) == f"{path} has classes that are not in 0 ... 4"


@pytest.mark.parametrize("content", ["", "[[1], [2]", "0 1\n2\n", 3, None, [1, 2, 3], [["cat"]], [None], {"cat": 1}])
def test_what_is_no_list_of_lists_is_refused(file, content):
    path = file(content)
    expected = f"{path} is no JSON list (or object) of lists of classes"
    assert message(read_multilabels, path, PLAIN, 5) == expected


@pytest.mark.parametrize(
    ("names", "content", "image"),
    [
        (PLAIN, [[0], [1]], "dog"),
        (NAMELESS, [[0], [1]], "2"),
        (PLAIN, {"owl": [0], "dog": [1]}, "cat.jpg"),
        (CHALLENGE, [[0]] * 16, "ILSVRC2012_val_00000017.JPEG"),
        (("a_1", "a_0"), [[0]] * 2, "a_0"),  # numbers begin at 1
        (NAMELESS, {}, "0"),
    ],
)
def test_an_image_without_labels_is_named(file, names, content, image):
    path = file(content)
    assert message(read_multilabels, path, names, 5) == f"{path} says nothing of image {image}"


def outputs(*arguments) -> list[int]:
    result = output_of_classes(*arguments)
    assert isinstance(result, np.ndarray)
    assert result.dtype.kind == "i"
    return result.tolist()


def test_classes_of_the_same_names_keep_their_places():
    assert outputs(PLAIN, list(PLAIN)) == [0, 1, 2]


def test_classes_in_another_order_are_found_by_their_names():
    assert outputs(["a", "b", "c", "d"], ["c", "a", "d", "b"]) == [2, 0, 3, 1]
    assert outputs(["a", "b", "c", "d"], ["d", "b"]) == [3, 1]  # some of them


def test_the_first_output_can_be_dropped():
    ours, theirs = [str(i) for i in range(1001)], [f"n{i:08d}" for i in range(1000)]
    assert outputs(ours, theirs, "drop_first") == list(range(1, 1001))
    assert message(output_of_classes, ours[1:], theirs, "drop_first") == (
        "--label-map=drop_first: 1000 outputs are not one more than 1000 classes"
    )


def test_a_file_says_which_output_is_which(file):
    # The graph of 2015 has 1008 outputs, of which eight are no class.
    ours, theirs = [str(i) for i in range(1008)], [f"n{i:08d}" for i in range(1000)]
    places = np.random.default_rng(0).permutation(1008)[:1000].tolist()
    assert outputs(ours, theirs, str(file(places))) == places


@pytest.mark.parametrize(
    "content", ["[0, 1", [0, 1], [0, 1, 2, 3], [0, 1, 2.0], ["0", "1", "2"], [[0], [1], [2]], [0, [1], 2], {"a": 0}]
)
def test_a_label_map_of_another_form_is_refused(file, content):
    path = file(content)
    assert message(output_of_classes, ["w", "x", "y", "z"], ["a", "b", "c"], str(path)) == (
        f"{path} is no JSON list of 3 whole numbers, an output for each class"
    )


@pytest.mark.parametrize("content", [[0, 1, 4], [-1, 1, 2]])
def test_a_label_map_of_outputs_that_are_not_there_is_refused(file, content):
    path = file(content)
    assert message(output_of_classes, ["w", "x", "y", "z"], ["a", "b", "c"], str(path)) == (
        f"{path} names outputs that are not in 0 ... 3"
    )


@pytest.mark.parametrize(
    ("theirs", "text"),
    [
        ("awbx", "the data 4, of which it does not know w, x; say with --label-map which output is which"),
        ("abcpqrst", "the data 8, of which it does not know p, q, r, s, t; say with --label-map which output is which"),
        (
            "pqrstu",
            "the data 6, of which it does not know p, q, r, s, t ...; say with --label-map which output is which",
        ),
    ],
)
def test_classes_that_the_network_does_not_know_are_named(theirs, text):
    assert message(output_of_classes, "abc", theirs) == f"the network has 3 classes, and {text}"


def test_a_dot_in_a_name_does_not_make_it_another(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("photo.v2\n")
    assert read_subset(file, ["photo.jpg", "photo.v2.jpg"]).tolist() == [False, True]


def test_an_object_does_not_label_images_of_the_same_name(tmp_path):
    file = tmp_path / "real.json"
    file.write_text('{"0.png": [1]}')
    with pytest.raises(UserError, match=r"says nothing of image 0\.png"):
        read_multilabels(file, ["0.png", "0.png"], 3)


@pytest.mark.parametrize("content", ["[[Infinity]]", "[[1.5]]", "[[true]]", '["12"]', "[1]"])
def test_labels_are_whole_numbers(tmp_path, content):
    file = tmp_path / "real.json"
    file.write_text(content)
    with pytest.raises(UserError, match="is no JSON list"):
        read_multilabels(file, [""], 30)


def test_a_superscript_is_no_number(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("²\n")
    with pytest.raises(UserError, match="names '²'"):
        read_subset(file, ["a.jpg", "b.jpg", "c.jpg"])


def test_classes_of_one_name_are_not_told_apart_by_it():
    with pytest.raises(UserError, match="several classes of the network are called 'crane'"):
        output_of_classes(["crane", "dog", "crane"], ["dog", "crane"])
    assert output_of_classes(["crane", "dog", "crane"], ["crane", "dog", "crane"]).tolist() == [0, 1, 2]
