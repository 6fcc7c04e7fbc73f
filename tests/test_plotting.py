"""The figure style: reproducible, and told apart by readers who are colour-blind."""

import io
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from torch import nn

from utils.plotting import EVAL, OTHER, TRAIN, TRUTH, book_style, plot_lines, plot_modules

# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
DEFICIENCIES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def linear(color):
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ rgb
    )
    f = np.cbrt(np.clip(xyz / [0.9505, 1, 1.089], 1e-9, None))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("matrix", DEFICIENCIES.values(), ids=DEFICIENCIES)
def test_colours_stay_apart_for_colour_blind_readers(matrix):
    seen = {
        color: lab(np.clip(np.array(matrix) @ linear(color), 0, 1))
        for color in (TRAIN, EVAL, TRUTH)
    }
    for one, two in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[two]) > 20, (one, two)


@pytest.mark.parametrize("color", [TRAIN, EVAL, TRUTH, OTHER])
def test_colours_are_legible_on_white(color):
    luminance = np.array([0.2126, 0.7152, 0.0722]) @ linear(color)
    assert 1.05 / (luminance + 0.05) >= 4.5


def svg(values):
    book_style()
    figure, ax = plt.subplots()
    plot_lines(ax, range(len(values)), {"line": values})
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return file.getvalue()


def test_figures_are_the_same_twice_and_differ_where_the_data_do():
    assert svg([1, 2, 3]) == svg([1, 2, 3])
    assert svg([1, 2, 3]) != svg([1, 2.1, 3])


def test_rounding_hides_what_another_processor_would_change():
    assert svg([1, 2, 3]) == svg([1 + 1e-7, 2 - 1e-7, 3])


def test_labels_that_would_cover_each_other_are_moved_apart():
    figure, ax = plt.subplots()
    plot_lines(ax, [0, 1], {"a": [0, 1.0], "b": [0, 0.99], "c": [0, 0.0]})
    heights = {text.get_text(): text.xy[1] for text in ax.texts}
    plt.close(figure)
    assert heights["a"] == 1.0 and heights["c"] == 0.0
    assert heights["a"] - heights["b"] >= 0.08


def test_a_short_line_is_named():
    figure, ax = plt.subplots()
    with pytest.raises(ValueError, match=r"lines\['a'\] has 1 values; expected 2, as many as x"):
        plot_lines(ax, [0, 1], {"a": [0]})
    plt.close(figure)


def test_labels_stand_inside_a_logarithmic_axis():
    _, ax = plt.subplots()
    ax.set_yscale("log")
    lines = {"training": [2.0, 0.3, 0.08], "validation": [1.9, 0.25, 0.079]}
    plot_lines(ax, [1, 2, 3], lines)
    heights = [text.xy[1] for text in ax.texts]
    assert all(0.5 * 0.079 < height <= 0.08 for height in heights)
    assert heights[1] != heights[0]


def test_a_tree_shows_modes_listeners_and_what_is_blamed():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Sequential(nn.ReLU()))
    net[1].eval()
    _, ax = plt.subplots()
    plot_modules(ax, net, blamed={"1": "random-in-eval"})
    texts = [text.get_text() for text in ax.texts]
    assert texts[2].endswith("random-in-eval") and texts[-1] == "0  ReLU"
    dots = ax.collections
    drawn = [to_hex(dot.get_edgecolors()[0]) for dot in dots]
    assert drawn == [TRAIN.lower(), TRAIN.lower(), EVAL.lower(), TRAIN.lower(), TRAIN.lower()]
    assert [len(dot.get_facecolors()) for dot in dots] == [0, 0, 1, 0, 0]
    with pytest.raises(ValueError, match="blamed names 'x'"):
        plot_modules(ax, net, blamed={"x": "random-in-eval"})
