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


def test_a_line_of_a_subset_is_a_name_or_a_number(file):
    for names, text, chosen in (
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
        (("photo.jpg", "photo.v2.jpg"), "photo.v2\n", [1]),  # a dot in a name begins no suffix
    ):
        subset = read_subset(file(text), names)
        assert subset.dtype == bool
        assert subset.shape == (len(names),)
        assert np.flatnonzero(subset).tolist() == chosen, (names, text)


def test_a_line_that_names_no_image_is_refused(file):
    for names, text, line in (
        (PLAIN, "cat\n bird.jpg \n", "bird.jpg"),
        (PLAIN, "3", "3"),
        (PLAIN, "-1", "-1"),
        (PLAIN, "²\n", "²"),  # a superscript is no number
        (CHALLENGE, "0", "0"),  # the numbers are the files', not the places
        (CHALLENGE, "3", "3"),
        (NAMELESS, "3", "3"),
        (("1.png", "1.png"), "1.png", "1.png"),  # which of the two?
    ):
        path = file(text)
        expected = f"{path} names {line!r}, which is no image of this split, or several"
        assert message(read_subset, path, names) == expected


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "none"
    expected = f"{path} cannot be read: No such file or directory"
    assert message(read_subset, path, PLAIN) == expected
    assert message(read_multilabels, path, PLAIN, 5) == expected
    assert message(output_of_classes, PLAIN, PLAIN, str(path)) == expected
    assert message(read_subset, tmp_path, PLAIN) == f"{tmp_path} cannot be read: Is a directory"
    path.write_bytes(b"\xff\xfe\xff")
    assert message(read_subset, path, PLAIN).startswith(f"{path} cannot be read: 'utf-8' codec")


def test_labels_go_by_number_place_or_name(file):
    # Images 17, 1 and 2 of a list of 17, as in real.json.
    content = [[number, number + 1] for number in range(1, 18)]
    assert read_multilabels(file(content), CHALLENGE, 20) == [{17, 18}, {1, 2}, {2, 3}]
    for names in (PLAIN, NAMELESS):  # without numbers
        labels = read_multilabels(file([[4], [0, 2, 2], []]), names, 5)
        assert labels == [{4}, {0, 2}, set()]
        assert all(isinstance(right, frozenset) for right in labels)
    for names in (PLAIN, CHALLENGE):
        stems = [name.split(".")[0] for name in names]
        content = {"other.jpg": [3], stems[2]: [2], f"{stems[1]}.tiff": [], names[0]: [0, 1]}
        assert read_multilabels(file(content), names, 4) == [{0, 1}, set(), {2}]


def test_labels_of_another_form_are_refused(file):
    for content in ([[0], [5], [1]], [[0], [-1], [1]], {"cat": [4, 5], "dog": [], "owl": []}):
        path = file(content)
        assert message(read_multilabels, path, PLAIN, 5) == f"{path} has classes outside 0 ... 4"
    for content in (
        *("", "[[1], [2]", "0 1\n2\n", 3, None, [1, 2, 3], [["cat"]], [None], {"cat": 1}),
        *("[[Infinity]]", "[[1.5]]", "[[true]]", '["12"]', "[1]"),
    ):
        path = file(content)
        assert message(read_multilabels, path, PLAIN, 5) == f"{path} is no JSON list (or object) of lists of classes"


def test_an_image_without_labels_is_named(file):
    for names, content, image in (
        (PLAIN, [[0], [1]], "dog"),
        (NAMELESS, [[0], [1]], "2"),
        (PLAIN, {"owl": [0], "dog": [1]}, "cat.jpg"),
        (CHALLENGE, [[0]] * 16, "ILSVRC2012_val_00000017.JPEG"),
        (("a_1", "a_0"), [[0]] * 2, "a_0"),  # numbers begin at 1
        (NAMELESS, {}, "0"),
        (("0.png", "0.png"), {"0.png": [1]}, "0.png"),  # which of the two?
    ):
        path = file(content)
        assert message(read_multilabels, path, names, 5) == f"{path} has no labels for image {image}"


def outputs(*arguments) -> list[int]:
    result = output_of_classes(*arguments)
    assert isinstance(result, np.ndarray)
    assert result.dtype.kind == "i"
    return result.tolist()


def test_classes_are_found_by_their_names():
    assert outputs(PLAIN, list(PLAIN)) == [0, 1, 2]
    assert outputs(["a", "b", "c", "d"], ["c", "a", "d", "b"]) == [2, 0, 3, 1]
    assert outputs(["a", "b", "c", "d"], ["d", "b"]) == [3, 1]  # some of them
    assert outputs(["crane", "dog", "crane"], ["crane", "dog", "crane"]) == [0, 1, 2]
    text = "several classes of the network are named 'crane'; give a label map (a JSON list of outputs)"
    assert message(output_of_classes, ["crane", "dog", "crane"], ["dog", "crane"]) == text
    for theirs, unknown in (
        ("awbx", "the data 4; unknown to the network: w, x"),
        ("abcpqrst", "the data 8; unknown to the network: p, q, r, s, t"),
        ("pqrstu", "the data 6; unknown to the network: p, q, r, s, t ..."),
    ):
        text = f"the network has 3 classes, {unknown}; give a label map (a JSON list of outputs)"
        assert message(output_of_classes, "abc", theirs) == text


def test_the_first_output_can_be_dropped():
    ours, theirs = [str(i) for i in range(1001)], [f"n{i:08d}" for i in range(1000)]
    assert outputs(ours, theirs, "drop_first") == list(range(1, 1001))
    text = "label_map=drop_first: 1000 outputs are not one more than 1000 classes"
    assert message(output_of_classes, ours[1:], theirs, "drop_first") == text


def test_a_file_says_which_output_is_which(file):
    # The graph of 2015 has 1008 outputs, of which eight are no class.
    ours, theirs = [str(i) for i in range(1008)], [f"n{i:08d}" for i in range(1000)]
    places = np.random.default_rng(0).permutation(1008)[:1000].tolist()
    assert outputs(ours, theirs, str(file(places))) == places
    names = ["w", "x", "y", "z"], ["a", "b", "c"]
    for content in (
        "[0, 1",
        [0, 1],
        [0, 1, 2, 3],
        [0, 1, 2.0],
        ["0", "1", "2"],
        [[0], [1], [2]],
        [0, [1], 2],
        {"a": 0},
    ):
        path = file(content)
        text = f"label_map={path} is no JSON list of 3 whole numbers, an output for each class"
        assert message(output_of_classes, *names, str(path)) == text
    for content in ([0, 1, 4], [-1, 1, 2]):
        path = file(content)
        assert message(output_of_classes, *names, str(path)) == f"label_map={path} has outputs outside 0 ... 3"
