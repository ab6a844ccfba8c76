"""Part of the results: what is stored of one image, and its key.

The *key* is a hash of the content of the file, the model, the settings of the analysis and the
version of the format. An image with a stored part is not analysed again. The *stem* also contains a
hash of the image's name, because the table contains the name.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ...core.errors import FAILED, add_failed, attempt, format_failed
from ...core.model_card import ModelCard
from ...core.settings import CPU_BFLOAT16
from ...core.tables import cluster_table as tables
from ...io.files import to_json
from ...io.provenance import Outcome
from ...io.tables import PARQUET_KEY, clusters_to_arrow
from ...models.analysis import Analysis
from ...reporting.examples import select_examples
from ...reporting.image_section import image_section
from ...reporting.plots.registry import scales_of
from ...statistics.ratios.ratio_notes import COMBINATION
from ...tracking.files import MovieResult, analyse_if_tracked
from ...tracking.following import TrackedMovie
from ..run_request import RunRequest
from .image_scale import ImageScale

FORM = 1
"""Version of the format of parts; a new version requires a new analysis of all images."""
TABLE, SCALE, MOVIE, DRAWING = ".parquet", ".npz", ".movie.json", ".report.json"
"""Endings of the files of a part."""
_STEM = re.compile(r"[0-9a-f]{32}-[0-9a-f]{12}")


def model_hash(card: ModelCard) -> str:
    """Of the card, which holds that of the weights: calibration makes results as well."""
    return hashlib.sha256(to_json(card.to_dict()).encode()).hexdigest()


def key_of(sha256: str, model: str, request: RunRequest) -> str:
    """Compute the key of an image's result, 32 hexadecimal digits."""
    parts = {
        "form": FORM,
        "content": sha256,
        "model": model,
        "pixel_size_nm": request.pixel_size_nm,
        "umap": request.umap,
        "average_frames": request.average_frames,
        "detection": asdict(request.detection),
    }
    if request.symmetries:  # a setting at its default leaves the key as it is
        parts["symmetries"] = True
    if request.labels != COMBINATION:
        parts["labels"] = request.labels
    if request.device == CPU_BFLOAT16:
        parts["device"] = request.device
    return hashlib.sha256(to_json(parts).encode()).hexdigest()[:32]


def stem_of(key: str, image: str) -> str:
    """Return the name of an image's part."""
    return f"{key}-{hashlib.sha256(image.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, eq=False)
class Part:
    """Result of a worker.

    Outcome, Parquet file, drawing and movie as JSON, and scale as a NumPy archive.
    """

    outcome: Outcome
    parquet: bytes | None = None
    drawing: str | None = None
    movie: str | None = None
    scale: bytes | None = None


def pack_part(table: pd.DataFrame, outcome: Outcome, about: dict[str, Any] | None = None) -> bytes:
    """Write the cluster table of one image to Parquet, with the outcome in the metadata."""
    said = {"form": FORM, "outcome": asdict(outcome), **(about or {})}
    stream = io.BytesIO()
    pq.write_table(clusters_to_arrow(table, said), stream)
    return stream.getvalue()


def make_part(
    analysis: Analysis,
    outcome: Outcome,
    card: ModelCard,
    draw: bool = True,
    small: bool = True,
    about: dict[str, Any] | None = None,  # more that the part says of itself: see `pack_part`
    stored: ImageScale | None = None,
    scale: bool = True,  # whether it has the scale of the image by itself, for its session
) -> Part:
    """Create the part of an analysed image."""
    failed: dict[str, str] = {}
    if scale and stored is None:
        stored = attempt(failed, "scale", lambda: ImageScale.of(analysis, card))
    movie = attempt(failed, "movie", lambda: analyse_if_tracked(analysis))
    drawing = None
    if draw:
        drawing = attempt(
            failed,
            "section of the report",
            lambda: describe_drawing(analysis, outcome, card, small, movie),
        )
    warnings = (*outcome.warnings, *format_failed({FAILED: failed}))
    parameters = add_failed(outcome.parameters, failed)
    outcome = replace(outcome, parameters=parameters, warnings=warnings)
    said = {"scale": scales_of([analysis]).get(outcome.image), **(about or {})}
    return Part(
        outcome,
        pack_part(analysis.table, outcome, said),
        drawing,
        None if movie is None else MovieResult.of(movie).to_json(),
        None if stored is None else stored.to_bytes(),
    )


def describe_drawing(
    analysis: Analysis,
    outcome: Outcome,
    card: ModelCard,
    small: bool,  # whether the image is drawn small, as one of many
    movie: TrackedMovie | None = None,
) -> str:
    """Draw an image for the report, as JSON."""
    section = image_section(analysis, outcome, small, ratios_later=True, movie=movie)
    examples = select_examples((), analysis, card.classes)
    return json.dumps(
        {
            "image": section.image,
            "html": str(section.html),
            "problem": section.problem,
            "examples": [asdict(example) for example in examples],
        }
    )


def split_name(name: str) -> tuple[str, str]:
    """Split the name of a file into the stem of its part and its ending; ("", "") if of none."""
    stem, dot, ending = name.partition(".")
    return (stem, dot + ending) if _STEM.fullmatch(stem) else ("", "")


def read_metadata(schema: pa.Schema) -> dict[str, Any]:
    """Read what a part says of its image."""
    return dict(json.loads(schema.metadata[PARQUET_KEY]))


def concatenate_parts(parts: Sequence[pa.Table]) -> pd.DataFrame:
    """Join parts to one cluster table.

    Parts are joined before they become a table, which takes a tenth of the time.
    """
    # What is said of a part is not of all, and of the index there is nothing to say.
    bare = [part.replace_schema_metadata(None) for part in parts]
    frame = pa.concat_tables(bare, promote_options="default").to_pandas()
    return tables.conform(frame)


def outcome_from(values: Mapping[str, Any]) -> Outcome:
    """Restore an outcome from the metadata of a part."""
    return Outcome(**{**values, "warnings": tuple(values.get("warnings") or ())})
