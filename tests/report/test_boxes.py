import numpy as np

from inception_jax.report.boxes import RIGHT, TRUE, boxed


def test_lines_are_around_the_pixels_of_the_box():
    image = np.full((8, 16, 3), 100, np.uint8)
    picture = boxed(image, [(np.array([4, 2, 7, 5]), TRUE)], side=64)  # four times as large
    assert picture.shape == (64, 64, 3)
    white = (picture == 255).all(axis=-1)
    rows, columns = (np.flatnonzero(white.any(axis=axis)) for axis in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (7, 24, 15, 32)
    assert (picture[32:] == 128).all()  # below the image
    np.testing.assert_array_equal(picture[0, 0], [100, 100, 100])
    np.testing.assert_array_equal(picture[14, 20], [100, 100, 100])  # inside


def test_a_box_beyond_the_image_or_without_pixels():
    image = np.zeros((300, 200, 3), np.uint8)
    picture = boxed(image, [(np.array([-50, -50, 500, 500]), RIGHT), (np.array([0, 0, -1, -1]), TRUE)])
    assert (picture == RIGHT).all(axis=-1).any()
