"""Files of figures: the pixels of matplotlib's own files."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from napari_atomicity.io.figure_canvas import drop_constant_channels
from napari_atomicity.io.figures import BACKEND, SUFFIXES, save_figure


def draw():
    figure = Figure((2, 1.5))
    grey, coloured = figure.subplots(1, 2)
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30), np.uint8)
    grey.imshow(pixels, cmap="gray", interpolation="none")
    coloured.imshow(pixels, cmap="viridis", interpolation="none")
    coloured.plot([1, 20], [2, 15], "o-")
    return figure


def saved(figure, kind, **options):
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=150, **options)
    return stream.getvalue()


def test_the_layout_is_computed_once_for_all_files(tmp_path, monkeypatch):
    execute, computed = ConstrainedLayoutEngine.execute, []
    monkeypatch.setattr(
        ConstrainedLayoutEngine,
        "execute",
        lambda engine, figure: (computed.append(figure), execute(engine, figure)),
    )
    figure = Figure((2, 1.5), layout="constrained")
    figure.subplots().set_ylabel("Share / %")
    for suffix in SUFFIXES:
        assert save_figure(figure, tmp_path / f"a{suffix}").stat().st_size
    assert computed == [figure]
    figure.draw_without_rendering()
    label = figure.axes[0].yaxis.label.get_window_extent()
    assert label.x0 >= 0 and label.x1 < figure.axes[0].get_window_extent().x0


def test_svg_has_the_content_of_matplotlib():
    images = []
    for options in ({"backend": BACKEND}, {}):
        svg = saved(draw(), "svg", metadata={"Date": None}, transparent=True, **options).decode()
        found = re.findall(r"data:image/png;base64,\s*([^\"]+)\"", svg)
        images.append([Image.open(io.BytesIO(base64.b64decode(text))) for text in found])
        rest = re.sub(r"base64,[^\"]+|image[0-9a-f]+|(m|p|C)[0-9a-f]{10,}", "", svg)
        images[-1].append(rest)
    ours, usual = images
    assert ours[-1] == usual[-1]
    assert [image.mode for image in ours[:-1]] == ["L", "RGB"]
    for one, other in zip(ours[:-1], usual[:-1], strict=True):
        assert np.array_equal(np.asarray(one.convert("RGBA")), np.asarray(other))


def test_channels_that_carry_nothing_are_dropped():
    rgba = np.random.default_rng(3).integers(0, 255, (5, 6, 4), np.uint8)
    assert drop_constant_channels(rgba) is rgba
    rgba[..., 3] = 255
    assert np.array_equal(drop_constant_channels(rgba), rgba[..., :3])
    rgba[..., 1:3] = rgba[..., :1]
    assert np.array_equal(drop_constant_channels(rgba), rgba[..., 0])


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_figure_is_saved_in_every_format(tmp_path, suffix):
    path = save_figure(draw(), tmp_path / f"figure{suffix}")
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[suffix])
