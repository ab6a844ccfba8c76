"""Pictures of the report: images as data URIs, outlines and symbols as SVG."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from ..core.palette import colours, symbols, to_8_bit
from ..core.tables.cluster_table import (
    NON_CLASS_LABELS,
    UNKNOWN,
    classes_of,
    format_label,
    format_rows,
    is_excluded,
)
from ..core.text import printable
from ..detection.background import block_mean
from ..models.analysis import Analysis
from .patch_pictures import compose
from .plots.base import Look, marker_scale
from .plots.publication import image_file, publication_look, write_drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes


PREVIEW_PX = 1200
"""Longest edge of a micrograph in the report in pixels."""
MANY_CLUSTERS = 300
"""Number of clusters of an image above which they are drawn without tooltips."""

# Symbols in a box from -1 to 1, by their names in napari.
_GLYPHS = {
    "disc": "M-.85 0a.85.85 0 1 0 1.7 0a.85.85 0 1 0-1.7 0z",
    "ring": "M-.85 0a.85.85 0 1 0 1.7 0a.85.85 0 1 0-1.7 0zM-.5 0a.5.5 0 1 1 1 0a.5.5 0 1 1-1 0z",
    "square": "M-.8-.8H.8V.8H-.8z",
    "diamond": "M0-1L.85 0L0 1L-.85 0z",
    "triangle_up": "M0-.95L.95.75H-.95z",
    "triangle_down": "M0 .95L.95-.75H-.95z",
    "star": "M0-1L.24-.32L.95-.31L.38.12L.59.81L0 .4L-.59.81L-.38.12L-.95-.31L-.24-.32z",
    "cross": "M-.3-.95H.3V-.3H.95V.3H.3V.95H-.3V.3H-.95V-.3H-.3z",
    "x": "M-.9-.5L-.5-.9L0-.4L.5-.9L.9-.5L.4 0L.9.5L.5.9L0 .4L-.5.9L-.9.5L-.4 0z",
    "clobber": "M-.56-.32A.56.56 0 1 1 .56-.32A.56.56 0 1 1 0 .65A.56.56 0 1 1-.56-.32z",
}


def data_uri(pixels: np.ndarray, kind: str = "png", longest_px: int | None = None) -> str:
    """Encode an image as a ``data:`` URI."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if longest_px and max(image.size) > longest_px:
        image.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, kind.upper(), quality=85, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def glyph(label: str, classes: Sequence[str]) -> Markup:
    """Return the symbol of a label in its colour as inline SVG."""
    path, fill = _GLYPHS[symbols(classes).get(label, "x")], colours(classes).get(label, "#8c8c8c")
    return Markup(
        '<svg class="glyph" viewBox="-1.1 -1.1 2.2 2.2" aria-hidden="true">'
        '<path d="{}" fill="{}" fill-rule="evenodd"/></svg>'
    ).format(path, fill)


def shown_frame(analysis: Analysis) -> int:
    """Return the index of the first frame that contains clusters."""
    return int(analysis.table["frame"].iloc[0]) if len(analysis.table) else 0


def pixels_of(analysis: Analysis) -> np.ndarray:
    """Return the frame (Y, X) that `overview` shows, read from its file if necessary.

    Large images are averaged over blocks while they are read.
    """
    micrograph, shown = analysis.micrograph, shown_frame(analysis)
    if not micrograph.is_large:
        return np.asarray(micrograph.frame(shown)[:, :], np.float32)
    factor = max(1, min(max(micrograph.shape_px) // PREVIEW_PX, *micrograph.shape_px))
    rows = micrograph.shape_px[0] - micrograph.shape_px[0] % factor
    strips = micrograph.strips(shown, factor, rows)
    return np.concatenate([block_mean(strip, factor) for strip in strips]).astype(np.float32)


def overview(
    analysis: Analysis,
    classes: Sequence[str],
    longest_px: int = PREVIEW_PX,  # edge length to which the micrograph is reduced
    pixels: np.ndarray | None = None,
    plain: bool | None = None,
) -> Markup:
    """Draw the micrograph with outlines and symbols of the clusters, and a scale bar.

    For a stack, this is the first frame that contains clusters.
    """
    micrograph, table = analysis.micrograph, analysis.table
    height, width = micrograph.shape_px
    in_frame = np.flatnonzero(table["frame"] == shown_frame(analysis))
    plain = len(in_frame) > MANY_CLUSTERS if plain is None else plain
    parts = []
    if pixels is not None:
        # Averaged first: percentiles of large images are slow.
        coarse = block_mean(pixels, max(1, max(pixels.shape) // longest_px))
        parts.append(
            Markup('<image href="{}" width="{}" height="{}" x="-0.5" y="-0.5"/>').format(
                data_uri(to_8_bit(coarse), "jpeg", longest_px), width, height
            )
        )
    draw = _plain_marks if plain else _marks
    parts += draw(analysis, in_frame, classes, mark=max(height, width) / 110)
    if micrograph.pixel_size_nm:
        parts.append(_scale_bar(width, height, micrograph.pixel_size_nm))
    title = Markup(
        '<svg class="overview" style="--ratio: {:.4f}" viewBox="-0.5 -0.5 {} {}" role="img"'
        ' aria-label="{}">'
    )
    label = f"{micrograph.name} with {len(table)} outlined clusters"
    return (
        title.format(width / height, width, height, label)
        + Markup("").join(parts)
        + Markup("</svg>")
    )


def _marks(
    analysis: Analysis, rows: np.ndarray, classes: Sequence[str], mark: float
) -> list[Markup]:
    """Draw outline, symbol and tooltip of each of these clusters."""
    table = analysis.table
    colour, symbol = colours(classes), symbols(classes)
    records: list[Any] = table.to_dict("records")
    counts, disagreements = format_rows(table)
    excluded = is_excluded(table)
    parts = []
    for i in rows:
        row, outline = records[i], analysis.outlines[i]
        fill = colour.get(row["label"], colour[UNKNOWN])
        facts = [
            format_label(row),
            *(["excluded"] if excluded[i] else []),
            *filter(None, (counts[i], disagreements[i])),
            f"{format_diameter(row['diameter_nm'])} (cluster {row['cluster_id']})",
        ]
        x, y = _symbol_position(row, outline, mark)
        parts.append(
            Markup(
                '<g><title>{}</title><path d="{}" fill="{}" fill-opacity=".08" stroke="{}"'
                ' class="outline{}"/><path d="{}" fill="{}" fill-rule="evenodd"'
                ' transform="translate({:.1f} {:.1f}) scale({:.2f})"/></g>'
            ).format(
                ", ".join(facts),
                _path(outline),
                fill,
                fill,
                " corrected" if row["label_corrected"] else "",
                _GLYPHS[symbol.get(row["label"], symbol[UNKNOWN])],
                fill,
                x,
                y,
                mark,
            )
        )
    return parts


def _plain_marks(
    analysis: Analysis, rows: np.ndarray, classes: Sequence[str], mark: float
) -> list[Markup]:
    """Draw outlines and symbols without tooltips, with one path for each label."""
    table = analysis.table
    colour, symbol = colours(classes), symbols(classes)
    # Identifiers of symbols are unique in the report.
    name = f"m{hashlib.sha256(analysis.micrograph.name.encode()).hexdigest()[:8]}"
    labels = table["label"].to_numpy(object)[rows]
    corrected = (table["label_corrected"] != "").to_numpy(bool)[rows]
    records: list[Any] = table[["x_px", "y_px"]].to_dict("records")
    parts = []
    for number, label in enumerate(dict.fromkeys(labels)):
        fill = colour.get(label, colour[UNKNOWN])
        of_label = labels == label
        for is_corrected, css_class in ((False, "outline"), (True, "outline corrected")):
            own = rows[of_label & (corrected == is_corrected)]
            if len(own):
                parts.append(
                    Markup('<path class="{}" fill="none" stroke="{}" d="{}"/>').format(
                        css_class, fill, "".join(_thin_path(analysis.outlines[i]) for i in own)
                    )
                )
        places = [_symbol_position(records[i], analysis.outlines[i], mark) for i in rows[of_label]]
        parts.append(
            Markup(
                '<defs><path id="{}-{}" d="{}" fill="{}" fill-rule="evenodd"'
                ' transform="scale({:.2f})"/></defs>'
            ).format(name, number, _GLYPHS[symbol.get(label, symbol[UNKNOWN])], fill, mark)
        )
        # only numbers: nothing to escape, which would take half of the time of an image
        marks = (f'<use href="#{name}-{number}" x="{x:.0f}" y="{y:.0f}"/>' for x, y in places)
        parts.append(Markup("".join(marks)))
    return parts


def format_diameter(diameter_nm: float) -> str:
    """Format a diameter; a mark of a person may not have one."""
    return f"{diameter_nm:.2f} nm" if np.isfinite(diameter_nm) else "not measured"


def _symbol_position(
    row: Mapping[Any, Any], outline: np.ndarray, mark: float
) -> tuple[float, float]:
    """Return the position (x, y) of the symbol of a cluster, next to its outline."""
    half_width = _half_width_px(outline)
    return row["x_px"] + half_width + mark, row["y_px"] - half_width


def _thin_path(outline: np.ndarray) -> str:
    """Return an SVG path of at most sixteen points in relative integer coordinates."""
    points = np.asarray(outline)
    if not len(points):
        return ""
    step = max(1, -(-len(points) // 16))
    whole = np.rint(points[::step]).astype(int)
    moves = np.diff(whole, axis=0)
    return f"M{whole[0, 1]} {whole[0, 0]}l" + " ".join(f"{x} {y}" for y, x in moves) + "z"


def _path(outline: np.ndarray) -> str:
    points = "L".join(f"{x:.1f} {y:.1f}" for y, x in np.asarray(outline))
    return f"M{points}Z" if points else ""


def _half_width_px(outline: np.ndarray) -> float:
    """Return half the width of an outline."""
    return float(np.ptp(outline[:, 1])) / 2 if len(outline) else 0.0


def scale_bar_nm(width_nm: float) -> float:
    """Return 1, 2 or 5 times a power of ten nm, at most a quarter of the width of an image."""
    wanted = width_nm / 4
    power = 10 ** np.floor(np.log10(wanted))
    return float(max(n * power for n in (1, 2, 5) if n * power <= wanted))


def _scale_bar(width: int, height: int, pixel_size_nm: float) -> Markup:
    """Draw a scale bar."""
    length_nm = scale_bar_nm(width * pixel_size_nm)
    bar, thick, edge = length_nm / pixel_size_nm, height / 120, height / 40
    return Markup(
        '<g class="scale-bar"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
        '<text x="{:.1f}" y="{:.1f}" font-size="{:.1f}">{:g} nm</text></g>'
    ).format(
        edge, height - edge - thick, bar, thick,
        edge + bar / 2, height - edge - 2.2 * thick, height / 32, length_nm,
    )  # fmt: skip


def interval_bar(
    fraction: float,
    low: float,
    high: float,
    colour: str,
    width: int = 220,  # width for the fraction 1 in pixels
    reference: float | None = None,
) -> Markup:
    """Draw a bar for a fraction with its interval and its reference."""
    if not np.isfinite(fraction):
        return Markup("")
    mark = Markup("")
    if reference is not None:
        mark = Markup('<path class="reference" d="M{:.1f} 0V18"/>').format(width * reference)
    if np.isfinite(low) and np.isfinite(high):
        whisker = '<path class="whisker" d="M{0:.1f} 9H{1:.1f}M{0:.1f} 4V14M{1:.1f} 4V14"/>'
        mark += Markup(whisker).format(width * low, width * high)
    return Markup(
        '<svg class="bar" viewBox="0 0 {w} 18" width="{w}" height="18" aria-hidden="true">'
        '<rect class="track" width="{w}" height="18" rx="2"/>'
        '<rect width="{f:.1f}" height="18" rx="2" fill="{c}"/>{m}</svg>'
    ).format(w=width, f=width * fraction, c=colour, m=mark)


def patch_tiles(analysis: Analysis, index: int, zoom: int = 2) -> dict[str, np.ndarray]:
    """Draw patches and class maps of one cluster: name → colours, uint8 (h, w, 3)."""
    patches = {
        channel: analysis.without_padding(own[index], index)[None]
        for channel, own in analysis.patches.items()
    }
    tiles = {
        channel: np.repeat(compose(patch, factor=zoom)[0][..., None], 3, axis=-1)
        for channel, patch in patches.items()
    }
    for channel, maps in analysis.class_maps.items():
        shown = analysis.map_within_image(maps[index], index)[None]
        tiles[f"class map {channel}"] = compose(patches[channel], shown, factor=zoom)[0]
    return tiles


def patch_strip(analysis: Analysis, index: int, zoom: int = 2) -> tuple[str, list[str]]:
    """Draw patches and class maps of one cluster next to each other."""
    tiles = patch_tiles(analysis, index, zoom)
    parts = []
    for tile in tiles.values():
        parts += [tile, np.full((len(tile), 2 * zoom, 3), 255, np.uint8)]
    return data_uri(np.concatenate(parts[:-1], axis=1), "jpeg"), list(tiles)


# ---- plot of an analysed image with the outlines of its clusters, with matplotlib

_MARKER_POINTS = 5.0


def draw_image(
    axes: Axes, analysis: Analysis, max_px: int = PREVIEW_PX, for_publication: bool = False
) -> None:
    """Draw an image with outlines and symbols of its clusters.

    It has axes in nm; for a publication, a scale bar and a legend of the figure, which needs a
    constrained layout. For a stack, this is the first frame that contains clusters.
    """
    from matplotlib.collections import PolyCollection

    micrograph, table = analysis.micrograph, analysis.table
    unit = micrograph.pixel_size_nm or 1.0
    height, width = micrograph.shape_px
    pixels = pixels_of(analysis)
    coarse = block_mean(pixels, max(1, max(pixels.shape) // max_px))
    # Pixel centres are at whole numbers.
    extent = np.array([-0.5, width - 0.5, height - 0.5, -0.5]) * unit
    axes.imshow(to_8_bit(coarse), cmap="gray", extent=tuple(extent), interpolation="nearest")
    look = Look(classes_of(table))
    in_frame = np.flatnonzero(table["frame"] == shown_frame(analysis))
    labels = table["label"].astype(str).to_numpy()
    found = dict.fromkeys([*look.classes, *NON_CLASS_LABELS, *sorted(set(labels[in_frame]))])
    for label in found:
        rows = in_frame[labels[in_frame] == label]
        if not len(rows):
            continue
        outlines = [analysis.outlines[i][:, ::-1] * unit for i in rows if len(analysis.outlines[i])]
        colour = look.colour(label)
        axes.add_collection(
            PolyCollection(outlines, facecolors="none", edgecolors=colour, linewidths=0.8)
        )
        scale = marker_scale(look.symbol(label))
        axes.plot(
            table["x_px"].to_numpy(float)[rows] * unit,
            table["y_px"].to_numpy(float)[rows] * unit,
            linestyle="",
            marker=look.marker(label),
            markersize=(_MARKER_POINTS / 2 if for_publication else _MARKER_POINTS) * scale,
            color=colour,
            markeredgewidth=0,
            label=f"{printable(label) or 'not classified'} ({len(rows)})",
        )
    length = "nm" if micrograph.pixel_size_nm else "px"
    axes.set(xlabel=f"x / {length}", ylabel=f"y / {length}", title=printable(micrograph.name))
    axes.set(xlim=tuple(extent[:2]), ylim=tuple(extent[2:]))
    figure = axes.get_figure(root=True)
    if len(in_frame) and for_publication and figure is not None:
        figure.legend(loc="outside right upper", frameon=False)
    elif len(in_frame):
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    if for_publication and micrograph.pixel_size_nm:
        axes.axis("off")
        draw_scale_bar(axes, (width * unit, height * unit))


def draw_scale_bar(axes: Axes, size_nm: tuple[float, float]) -> None:
    """Draw a white scale bar with a dark rim into the lower left of an image (width, height)."""
    from matplotlib.patheffects import withStroke

    length_nm = scale_bar_nm(size_nm[0])
    x, y = 0.04 * size_nm[0], 0.95 * size_nm[1]
    rim = [withStroke(linewidth=3.5, foreground="black")]
    axes.plot([x, x + length_nm], [y, y], color="white", linewidth=2, path_effects=rim)
    axes.annotate(
        f"{length_nm:g} nm", (x, y), (0, 3), textcoords="offset points",
        ha="left", va="bottom", color="white",
        path_effects=[withStroke(linewidth=1.5, foreground="black")],
    )  # fmt: skip


CLUSTER_COLUMNS = ["frame", "cluster_id", "x_nm", "y_nm", "diameter_nm", "label", "confidence"]


def write_images(analyses: Iterable[Analysis], folder: Path) -> list[Path]:
    """Write each image with the outlines and labels of its clusters, as for a publication."""
    files = []
    for analysis in analyses:
        look = publication_look(classes_of(analysis.table))
        height, width = analysis.micrograph.shape_px
        draw = partial(draw_image, analysis=analysis, for_publication=True)
        rows = analysis.table[analysis.table["frame"] == shown_frame(analysis)]
        name = f"{image_file(analysis.micrograph.name)} clusters"
        # The legend is beside the image.
        aspect = 0.75 * height / width
        files += write_drawn(name, draw, folder, look, rows[CLUSTER_COLUMNS], aspect)
    return files
