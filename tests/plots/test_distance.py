import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from koopscope.errors import UsageError
from koopscope.plots import plot_distance


def matrix_of(place):
    place = np.asarray(place, float)
    distance = np.abs(place[:, None] - place)
    return xr.DataArray(
        distance, dims=("item", "item_other"), coords={"item": [f"run {i}" for i in range(place.size)]}
    )


def test_plot_distance__alike_items_are_neighbours():
    matrix = matrix_of([0, 5, 0.1, 5.1, 0.3])
    ax = plot_distance(matrix)
    order = [int(tick.get_text().removeprefix("run ")) for tick in ax.get_yticklabels()]
    assert {*order[:3]} in ({0, 2, 4}, {1, 3, order[2]})
    np.testing.assert_array_equal(ax.images[0].get_array(), matrix.values[np.ix_(order, order)])
    assert len(ax.texts) == 25


def test_plot_distance__labels_are_a_strip_of_colours():
    ax = plot_distance(matrix_of([0, 5, 0.1, 5.1]), labels=["adam", "sgd", "adam", "sgd"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["adam", "sgd"]
    strip = next(child for child in ax.child_axes if child.patches)
    assert len({patch.get_facecolor() for patch in strip.patches}) == 2


@pytest.mark.parametrize("count", [1, 2, 50, 300])
def test_plot_distance__any_number_of_items(count):
    ax = plot_distance(matrix_of(np.arange(count) % 7))
    ax.figure.draw_without_rendering()
    assert len(ax.get_xticklabels()) <= 30


@pytest.mark.parametrize(
    ("names", "spelled"),
    [
        (["adam_decayed_seed1.koop", "adam_decayed_seed12.koop"], ["seed1", "seed12"]),
        (["short", "shorter"], ["short", "shorter"]),
        (["the-same-long-name-twice"] * 2, ["the-sam…me-twice"] * 2),
        (["one_of_them_is_a_prefix", "one_of_them_is_a_prefix_2"], ["prefix", "prefix_2"]),
    ],
)
def test_plot_distance__long_names_stay_distinct(names, spelled):
    ax = plot_distance(matrix_of([0, 5]).assign_coords(item=names))
    assert sorted(tick.get_text() for tick in ax.get_yticklabels()) == sorted(spelled)


def test_plot_distance__draws_on_the_axes_given():
    ax = Figure().subplots()
    assert plot_distance(matrix_of([1, 2]), ax=ax) is ax


def test_plot_distance__what_it_refuses():
    with pytest.raises(UsageError, match="square"):
        plot_distance(xr.DataArray(np.zeros((2, 3))))
    with pytest.raises(UsageError, match="label for each"):
        plot_distance(matrix_of([1, 2]), labels=["one"])
