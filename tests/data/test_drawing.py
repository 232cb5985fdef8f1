import numpy as np
import pytest

from inception_jax.data import drawing
from inception_jax.errors import UserError


def ring(top, left, height, width, pen, size=300):
    """An ellipse as a pen of some width draws it."""
    y, x = (np.arange(size) + 0.5)[:, None], (np.arange(size) + 0.5)[None]
    middle = (top + height / 2, left + width / 2)
    outer = ((y - middle[0]) / (height / 2)) ** 2 + ((x - middle[1]) / (width / 2)) ** 2 <= 1
    inner = ((y - middle[0]) / (height / 2 - pen)) ** 2 + ((x - middle[1]) / (width / 2 - pen)) ** 2 <= 1
    return outer & ~inner


def test_a_digit_fills_the_frame_as_those_of_scikit_learn():
    found = drawing.as_digit(ring(60, 40, 160, 100, 8))
    assert found.shape == (8, 8)
    assert found.dtype == np.uint8
    assert found[[0, -1]].max() > 200  # from top to bottom
    # 20 of 32 columns: six of eight blocks, of which the outer ones are half full at most.
    assert (found[:, [0, 7]] == 0).all()
    assert found[:, 1].max() == found[:, 6].max() == 128
    assert found[3:5, 3:5].max() == 0  # its middle is open
    np.testing.assert_allclose(found.mean() / 255, 0.305, atol=0.02)
    np.testing.assert_array_equal(found, found[::-1])


def test_neither_place_nor_size_nor_pen_of_a_drawn_digit_count():
    first = drawing.as_digit(ring(60, 40, 160, 100, 8))
    np.testing.assert_array_equal(drawing.as_digit(ring(5, 180, 160, 100, 8)), first)
    for other in (ring(20, 20, 80, 50, 4), ring(20, 20, 240, 150, 12), ring(60, 40, 160, 100, 3)):
        np.testing.assert_allclose(drawing.as_digit(other).astype(float), first, atol=48)  # 3 of 16 pixels of a block


def test_a_stroke_stays_narrow():
    found = drawing.as_digit(np.pad(np.ones((200, 10), bool), 40))
    columns = np.flatnonzero(found.any(axis=0))
    assert found[:, columns].min() > 0
    assert 2 <= len(columns) <= 4
    np.testing.assert_allclose(found.mean() / 255, 0.305, atol=0.03)


def test_mnist_is_centred_by_mass():
    ink = np.zeros((200, 200), bool)
    ink[20:120, 50:60] = True  # an L
    ink[110:120, 50:100] = True
    found = drawing.as_mnist(ink)
    assert found.shape == (28, 28)
    rows, columns = (np.flatnonzero(found.any(axis=axis)) for axis in (1, 0))
    assert (len(rows), len(columns)) == (20, 10)
    # The mass is 100 x 10 pixels in the middle of the long stroke, and 10 x 40 beside it.
    assert rows[0] == round(13.5 - (1000 * 50 + 400 * 95) / 1400 / 5 + 0.5)
    assert columns[0] == round(13.5 - (1000 * 5 + 400 * 30) / 1400 / 5 + 0.5)
    assert (found[rows[0] : rows[0] + 18, columns[0] : columns[0] + 2] == 255).all()


@pytest.mark.parametrize("form", drawing.FORMS.values())
def test_nothing_is_refused_and_a_dot_is_not(form):
    with pytest.raises(UserError, match="nothing is drawn"):
        form(np.zeros((30, 30), bool))
    dot = np.zeros((30, 30), bool)
    dot[29, 0] = True
    assert form(dot).max() == 255
