"""What 16-bit numbers of a processor gain, and what they and TF32 of a GPU change in sessions.

    python benchmarks/precision.py [--sessions 8] [--images 4] [--patches 1024] [--repeats 5]

Simulated sessions of each kind are analysed in one process with ``cpu``, with ``cpu-bf16``, and
with convolutions whose factors have 10 bits, as CUDA rounds them (TF32), or 20, which shows what
any rounding changes. The network is timed on noise, in turn, with one thread. Without 16-bit
numbers in the processor the script says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from measuring import interleaved, machine, options, write
from napari_atomicity import Analyses, analyse
from napari_atomicity.core.errors import ModelError
from napari_atomicity.core.settings import CPU_BFLOAT16
from napari_atomicity.core.tables.cluster_table import ALL
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.models.inference import Classifier, load_classifier
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


def rounding(kept: int) -> Classifier:
    """The shipped model with convolutions whose factors keep so many of 23 bits."""
    path = find_model("default")
    classifier = Classifier(*read_model(path), torch.device("cpu"))
    for layer in classifier.network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = rounded(layer.weight.data, kept)
            layer.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0], kept),))
    return classifier


def rounded(values: torch.Tensor, kept: int) -> torch.Tensor:
    """Float32 with a shorter fraction."""
    dropped = 23 - kept
    bits = values.contiguous().view(torch.int32) + (1 << (dropped - 1))
    return (bits >> dropped << dropped).view(torch.float32)


def by_kind(
    exact: Classifier, others: dict[str, Classifier], sessions: int, images: int
) -> dict[str, list[dict[str, Any]]]:
    """What differs from one classifier in simulated sessions, a row for each kind of session."""
    library = lattice_pieces((*SIZES, *(int(name[2:]) for name in OTHER_SIZES)))
    classes = tuple(f"Pt{size}" for size in SIZES)
    rows = []
    for kind in KINDS:
        for number in range(sessions):
            drawn = draw_session(kind, classes, images, SEED + number)
            fields = [field.micrograph for field in simulate_session(library, drawn)]
            first = analyse(fields, exact, umap=False, progress=False)
            if not (isinstance(first, Analyses) and len(first.table)):
                continue
            for name, other in others.items():
                second = analyse(fields, other, umap=False, progress=False)
                rows.append({"name": name, "kind": kind, **compared(first, second)})
    found = pd.DataFrame(rows).groupby(["name", "kind"], sort=False).agg(
        sessions=("clusters", "size"), clusters=("clusters", "sum"), labels=("labels", "sum"),
        close_calls=("close_calls", "sum"), probability=("probability", "max"),
        fraction=("fraction", "max"), interval=("interval", "max"),
    ).reset_index("kind")  # fmt: skip
    return {name: found.loc[[name]].to_dict("records") for name in others}


def main() -> None:
    given = options(__doc__, sessions=8, images=4, patches=1024, repeats=5)
    about = machine()
    others = {"TF32": rounding(10), "20 bits": rounding(20)}
    figures: dict[str, Any] = {}
    try:
        figures["network_ms"] = network(given.patches, given.repeats)
        others[CPU_BFLOAT16] = load_classifier("default", CPU_BFLOAT16)
    except ModelError as error:
        print(f"not measured: {error}")
    exact = load_classifier("default", "cpu")
    figures["kinds"] = by_kind(exact, others, given.sessions, given.images)
    write("precision", figures, about)


if __name__ == "__main__":
    main()
