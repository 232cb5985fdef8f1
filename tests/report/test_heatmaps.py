import numpy as np

from inception_jax.report import heatmaps


def test_no_heat_is_the_image_in_grey():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    heat = np.zeros((4, 5), np.float32)
    heat[1, 2] = 3
    found = heatmaps.overlay(image, heat)
    grey = np.rint(image @ [0.299, 0.587, 0.114])
    assert (found[0] == grey[0, :, None]).all()
    yellow = np.array([252, 255, 164])  # the last colour of inferno
    np.testing.assert_allclose(found[1, 2], 0.45 * grey[1, 2] + 0.55 * yellow, atol=2)


def test_a_reconstruction_is_grey_where_nothing_counts():
    values = np.zeros((3, 4, 1), np.float32)
    values[0, 0], values[2, 3] = 2, -2
    found = heatmaps.reconstruction(values)
    assert found.shape == (3, 4, 3)
    assert found[0, 0].tolist() == [255] * 3
    assert found[2, 3].tolist() == [0] * 3
    assert found[1, 1].tolist() == [128] * 3


def test_outliers_do_not_darken_the_rest():
    heat = np.full((20, 20), 1.0, np.float32)
    heat[0, 0] = 1e6
    assert (heatmaps.colours(heat)[5, 5] == heatmaps.colours(heat)[0, 0]).all()


def test_channels_share_one_scale_and_are_found_by_their_place():
    values = np.zeros((2, 2, 5), np.float32)
    values[:, :, 1], values[1, 0, 3], values[:, :, 4] = 1, 2, 2
    grid = heatmaps.channel_grid(values)
    cell = 160  # three columns, a quarter of the width at most
    assert grid.shape == (2 * cell + 1, 3 * cell + 1, 3)
    black, yellow = [0, 0, 4], [252, 255, 164]  # of inferno
    assert grid[80, 80].tolist() == black
    assert grid[80, 240].tolist() not in (black, yellow)
    assert grid[cell + 120, 40].tolist() == yellow  # channel 3, below on the left
    assert grid[cell + 40, 120].tolist() == black
    assert grid[cell + 80, 240].tolist() == yellow
    assert grid[80, cell].tolist() == [255] * 3
    places = [(80, 80), (240, 80), (479, 159), (0, 160), (240, 300), (400, 300), (480, 0)]
    assert [heatmaps.channel_at(x, y, 5) for x, y in places] == [0, 1, 2, 3, 4, None, None]
    assert heatmaps.channel_grid(np.ones((1, 1, 2048), np.float32)).shape == (79 * 24 + 1, 26 * 24 + 1, 3)
