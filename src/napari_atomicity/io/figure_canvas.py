"""Canvas of matplotlib that writes SVG files with smaller images of the same pixels.

It is used by name: ``figure.savefig(path, backend=BACKEND)``. Opaque images have no alpha channel,
and grey ones have one channel: they are compressed in a quarter of the time.
"""

from __future__ import annotations

import codecs
from typing import Any

import numpy as np
from matplotlib import cbook
from matplotlib.backends.backend_mixed import MixedModeRenderer
from matplotlib.backends.backend_svg import FigureCanvasSVG, RendererSVG

_SVG_DPI = 72


class FigureCanvas(FigureCanvasSVG):
    """Canvas for SVG files."""

    def print_svg(  # type: ignore[override]
        self,
        filename_or_obj: Any,
        *,
        metadata: dict[str, Any] | None = None,
        bbox_inches_restore: Any = None,
        **_: Any,
    ) -> None:
        """Write the figure as SVG, as `matplotlib.backends.backend_svg.FigureCanvasSVG` does."""
        figure, dpi = self.figure, self.figure.dpi
        width, height = figure.get_size_inches()
        with cbook.open_file_cm(filename_or_obj, "w", encoding="utf-8") as file:
            is_text = cbook.file_requires_unicode(file)
            text: Any = file if is_text else codecs.getwriter("utf-8")(file)
            figure.dpi = _SVG_DPI
            svg = _Renderer(
                _SVG_DPI * width, _SVG_DPI * height, text, image_dpi=dpi, metadata=metadata
            )
            renderer: Any = MixedModeRenderer(
                figure, width, height, dpi, svg, bbox_inches_restore=bbox_inches_restore
            )
            figure.draw(renderer)
            renderer.finalize()


class _Renderer(RendererSVG):
    """Renderer of an SVG file whose images have no constant channels."""

    def draw_image(self, gc: Any, x: float, y: float, im: Any, transform: Any = None) -> None:
        super().draw_image(gc, x, y, drop_constant_channels(im), transform)


def drop_constant_channels(
    rgba: np.ndarray,  # (Y, X, 4), uint8: image
) -> np.ndarray:  # (Y, X), (Y, X, 3) or (Y, X, 4), uint8: the same image
    """Return an image without its alpha channel if it is opaque, and with one channel if grey."""
    red, green, blue, alpha = (rgba[..., channel] for channel in range(4))
    if alpha.min(initial=255) < 255:
        return rgba
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return np.ascontiguousarray(red)
    rgb = np.empty((*red.shape, 3), np.uint8)
    for channel, values in enumerate((red, green, blue)):  # four times as fast as one copy
        rgb[..., channel] = values
    return rgb
