"""What 16-bit numbers of a processor gain, and what they change, beside 32-bit numbers.

    python benchmarks/precision.py [--sessions 4] [--images 4] [--patches 1024] [--repeats 5]

Simulated sessions of each kind are analysed with ``cpu`` and ``cpu-bf16`` in one process; the
network is timed on noise, in turn, with one thread. Without these numbers in the processor the
script says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from measuring import interleaved, machine, options, write
from napari_atomicity import Analyses, analyse
from napari_atomicity.core.errors import ModelError
from napari_atomicity.core.settings import CPU_BFLOAT16
from napari_atomicity.core.tables.cluster_table import ALL
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.simulation.example_data import SIZES, lattice_pieces
from napari_atomicity.simulation.sessions import (
    KINDS,
    OTHER_SIZES,
    draw_session,
    simulate_session,
)

DEVICES = ("cpu", CPU_BFLOAT16)
SEED = 3_800
CLOSE = 0.03
"""Two classes whose probabilities differ by less are a close call."""


def network(n: int, repeats: int) -> dict[str, float]:
    """Milliseconds of the processor for a patch with class maps."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    classifiers = {device: load_classifier("default", device) for device in DEVICES}
    size = classifiers["cpu"].card.patches.size_px
    patches = {c: rng.normal(1, 1, (n, size, size)).astype(np.float32) for c in ("raw", "LCN")}
    rows = slice(0, n)
    runs = {d: lambda own=own: own._part(patches, rows, None, False)
            for d, own in classifiers.items()}  # fmt: skip
    for run in runs.values():
        run()
    return {d: 1e3 * t.cpu_s / n for d, t in interleaved(runs, repeats).items()}


def compared(exact: Analyses, short: Analyses) -> dict[str, Any]:
    """What differs between two analyses of one session."""
    one, other = exact.table, short.table
    columns = [name for name in one if name.startswith("p_")]
    p = one[columns].to_numpy(float)
    best = np.sort(p, axis=1)[:, ::-1]
    differ = (one["label"] != other["label"]).to_numpy()
    ends = ["fraction", "fraction_low", "fraction_high"]
    ratios = [analyses.ratios().set_index("class") for analyses in (exact, short)]
    one_of_all, other_of_all = (r.loc[r["scope"] == ALL, ends] for r in ratios)
    change = (one_of_all - other_of_all).abs()
    return {
        "clusters": len(one),
        "labels": int(differ.sum()),
        "close_calls": int((differ & (best[:, 0] - best[:, 1] < CLOSE)).sum()),
        "probability": float(np.nanmax(np.abs(p - other[columns].to_numpy(float)), initial=0)),
        "fraction": float(change["fraction"].max()),
        "interval": float(change[["fraction_low", "fraction_high"]].max(axis=None)),
    }


def by_kind(devices: tuple[str, str], sessions: int, images: int) -> list[dict[str, Any]]:
    """What differs between two devices in simulated sessions, a row for each kind of session."""
    library = lattice_pieces((*SIZES, *(int(name[2:]) for name in OTHER_SIZES)))
    classes = tuple(f"Pt{size}" for size in SIZES)
    rows = []
    for kind in KINDS:
        for number in range(sessions):
            drawn = draw_session(kind, classes, images, SEED + number)
            fields = [field.micrograph for field in simulate_session(library, drawn)]
            found = [analyse(fields, device=d, umap=False, progress=False) for d in devices]
            if all(isinstance(one, Analyses) and len(one.table) for one in found):
                rows.append({"kind": kind, **compared(*found)})
    figures = pd.DataFrame(rows).groupby("kind", sort=False).agg(
        sessions=("clusters", "size"), clusters=("clusters", "sum"), labels=("labels", "sum"),
        close_calls=("close_calls", "sum"), probability=("probability", "max"),
        fraction=("fraction", "max"), interval=("interval", "max"),
    )  # fmt: skip
    return figures.reset_index().to_dict("records")


def main() -> None:
    given = options(__doc__, sessions=4, images=4, patches=1024, repeats=5)
    about = machine()
    try:
        milliseconds = network(given.patches, given.repeats)
    except ModelError as error:
        print(f"not measured: {error}")
        return
    kinds = by_kind(DEVICES, given.sessions, given.images)
    write("precision", {"network_ms": milliseconds, "kinds": kinds}, about)


if __name__ == "__main__":
    main()
