"""A GPU beside the CPU: patches per second, a large field, training, tables, and faults.

    python benchmarks/gpu.py [--size 4096] [--clusters 5000] [--patches 65536] [--compare]
        [--sessions 2] [--fields 40] [--epochs 5] [--only network field]

Needs a CUDA device. Where there is none, or with ``--device cpu``, the same steps are gone through
on the CPU with a small load: a proof of the script, which measures nothing of a GPU and is kept as
a record of its own.

The CPU detects clusters and cuts patches; the network computes on the device, with convolutions in
TF32. It is beside the same in float32 and float16, and the field beside the CPU alone. Operations
are counted by PyTorch's own counter, bytes as what every layer reads and writes; the roofs are
those that a large matrix product and a large copy reach on this device in the same run, not those
of a data sheet. ``--compare`` puts torch.compile and a CUDA graph beside the network as it is.

Training, adaptation, atoms and whole sessions are computed on both devices. Faults are brought
about in processes of their own: two that share the card, one with little memory, one on a card
that another process fills, and one whose device is lost. ``--only`` measures some of it, and keeps
the other figures of the record.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fields import field
from measuring import RESULTS, machine, options, timed as once, write
from napari_atomicity import analyse
from napari_atomicity.atoms.analysis import find_atoms
from napari_atomicity.atoms.finding.card import SAMPLING_NM
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.processes import spawn_pool
from napari_atomicity.core.tables.cluster_table import settle_labels
from napari_atomicity.detection.patches import extract_patches
from napari_atomicity.models.inference import Classifier, load_classifier
from napari_atomicity.models.scale.intensity_scale import fit_image
from napari_atomicity.models.scaled_predictions import assign_labels
from napari_atomicity.pipeline.adaptation.runs import adapt_images
from napari_atomicity.pipeline.analysis import classify_clusters, detect_clusters
from napari_atomicity.simulation.example_data import SIZES, lattice_pieces
from napari_atomicity.simulation.sessions import draw_session, simulate_session
from napari_atomicity.statistics.scores import match_nearest
from napari_atomicity.training.atoms import simulate_field_of_atoms
from napari_atomicity.training.classifier import train_in_memory
from napari_atomicity.training.prepared_sets import from_simulation
from napari_atomicity.training.request import SimulationSource, TrainRequest
from precision import by_kind

CLASSES = tuple(f"Pt{size}" for size in SIZES)
SEED = 3_805
GIB = 1 << 30
WAYS: dict[str, tuple[torch.dtype | None, bool]] = {
    "TF32": (None, True),
    "float32": (None, False),
    "float16": (torch.float16, True),
}
"""Precisions of the network: the short numbers, and whether convolutions round to TF32. The first
is what the package uses."""
LEAVES = (nn.Conv2d, nn.GroupNorm, nn.SiLU, nn.Linear)


def timed(device: torch.device, function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median of several runs in seconds after one to warm up, and the last result."""
    seconds, result = [], function()
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        result = function()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def made_up(classifier: Classifier, n: int) -> dict[str, np.ndarray]:
    """Patches of noise: the network takes as long for them as for clusters."""
    size, rng = classifier.card.patches.size_px, np.random.default_rng(0)
    return {
        c: rng.standard_normal((n, size, size), np.float32) + np.float32(5)
        for c in classifier.network.channels
    }


@torch.inference_mode()
def work(classifier: Classifier, n: int = 8) -> tuple[float, float]:
    """FLOP, and bytes that the layers read and write, for one patch."""
    patches = {c: classifier._on_device(x) for c, x in made_up(classifier, n).items()}
    moved, width = 0, 4

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal moved
        moved += width * (sum(x.numel() for x in inputs) + output.numel())
        moved += width * sum(p.numel() for p in module.parameters()) * n // 512

    hooks = [m.register_forward_hook(count) for m in classifier.network.modules()
             if isinstance(m, LEAVES)]  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        classifier._computed(patches, None, None)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() / n, moved / n


def roofs(device: torch.device, edge: int) -> tuple[float, float]:
    """FLOP and bytes per second that a matrix product and a copy reach here, in float32."""
    a, b = (torch.randn((edge, edge), device=device) for _ in range(2))
    product, _ = timed(device, lambda: a @ b, 5)
    source = torch.empty(edge * edge * 4, device=device)
    target = torch.empty_like(source)
    copy, _ = timed(device, lambda: target.copy_(source), 5)
    return 2 * edge**3 / product, 2 * source.numel() * 4 / copy


def network(device: str, n: int, repeats: int) -> dict[str, Any]:
    """Patches per second with both class maps, from main memory and back."""
    ours = load_classifier("default", device)
    patches = made_up(ours, n)
    few = {c: x[: max(1, n // 16)] for c, x in patches.items()}
    alone = load_classifier("default", "cpu").predict(few)
    ways = {}
    for name, (ours.half, torch.backends.cudnn.allow_tf32) in WAYS.items():
        seconds, _ = timed(ours.device, lambda: ours.predict(patches), repeats)
        change = ours.predict(few).probabilities - alone.probabilities
        ways[name] = {"patches_per_s": n / seconds, "largest_change": float(np.abs(change).max())}
    ours.half, torch.backends.cudnn.allow_tf32 = None, True
    flop, moved = work(ours)
    roof_flop, roof_bytes = roofs(ours.device, 8192 if ours.device.type == "cuda" else 1024)
    averaged, _ = timed(ours.device, lambda: ours.predict(few, symmetries=True), repeats)
    least = max(flop / roof_flop, moved / roof_bytes)
    return {
        "patches": n,
        "batch": ours.batch_size,
        "patches_in": "main memory",
        "ways": ways,
        "patches_per_s": ways["TF32"]["patches_per_s"],
        "symmetries_patches_per_s": len(few["raw"]) / averaged,
        "mflop_per_patch": flop / 1e6,
        "kb_per_patch": moved / 1e3,
        "roof_tflop_per_s": roof_flop / 1e12,
        "roof_gb_per_s": roof_bytes / 1e9,
        "bound_by": "operations" if flop / roof_flop > moved / roof_bytes else "memory",
        "share_of_roof": least * ways["float32"]["patches_per_s"],
    }


def compared(device: str) -> dict[str, Any]:
    """Patches per second of one batch with class maps: as it is, compiled, and as a CUDA graph."""
    classifier = load_classifier("default", device)
    n = classifier.batch_size
    batch = {c: classifier._on_device(x) for c, x in made_up(classifier, n).items()}

    @torch.inference_mode()
    def forward() -> Any:
        return classifier._computed(batch, None, None)

    def compiled() -> Callable[[], Any]:
        plain, fast = classifier.network, torch.compile(classifier.network)

        def run() -> Any:
            classifier.network = fast
            try:
                return forward()
            finally:
                classifier.network = plain

        return run

    def graph() -> Callable[[], Any]:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            forward()
        torch.cuda.current_stream().wait_stream(aside)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            forward()
        return captured.replay

    result: dict[str, Any] = {"batch": n}
    ways = {"as_it_is": lambda: forward, "torch_compile": compiled, "cuda_graph": graph}
    if device == "cpu":
        del ways["cuda_graph"]
    for name, made in ways.items():
        start = time.perf_counter()
        try:
            run = made()
            run()
            wait(classifier.device)
            result[f"{name}_ready_s"] = time.perf_counter() - start
            result[f"{name}_patches_per_s"] = n / timed(classifier.device, run, 5)[0]
        except Exception as error:  # an option that fails is a result
            result[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return result


def whole_field(device: str, size: int, clusters: int, repeats: int) -> dict[str, Any]:
    """A large field end to end, stage by stage, and the same by the CPU alone."""
    micrograph = field(size, clusters)
    classifier = load_classifier("default", device)
    where = classifier.device
    detect_s, found = timed(where, lambda: detect_clusters(micrograph), repeats)
    table: dict[str, Any] = {
        "size_px": size,
        "clusters": len(found.table),
        "detect_s": detect_s,
    }
    table["end_to_end_s"], ours = timed(
        where, lambda: classify_clusters(detect_clusters(micrograph), classifier), repeats
    )
    plain = load_classifier("default", "cpu")
    table["end_to_end_by_cpu_s"], alone = timed(
        plain.device, lambda: classify_clusters(detect_clusters(micrograph), plain), 1
    )
    table["labels_differ_from_cpu"] = int(
        (ours.table["label"].to_numpy() != alone.table["label"].to_numpy()).sum()
    )
    settings = classifier.card.patches
    table["patches_s"], patches = timed(
        where, lambda: extract_patches(micrograph, found.table, settings), repeats
    )
    table["network_s"], prediction = timed(where, lambda: classifier.predict(patches), repeats)
    reference = classifier.card.scale
    if reference is not None:  # by the CPU whatever the device
        table["scale_by_cpu_s"], scale = timed(
            where, lambda: fit_image(found.table, reference), repeats
        )
        table["conclusion_by_cpu_s"], _ = timed(
            where, lambda: assign_labels(found.table, classifier, prediction, scale), repeats
        )
    if device == "cuda":
        table["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        table["kept_gb"] = torch.cuda.memory_reserved() / 1e9
    return table


# ---- work of users on both devices
def trained(device: str, fields: int, epochs: int) -> dict[str, Any]:
    """Seconds of a training from random weights on simulated fields, without the map."""
    part = from_simulation(
        lattice_pieces(SIZES), CLASSES, fields, SEED, workers=min(8, os.cpu_count() or 1)
    )
    request = TrainRequest(SimulationSource(CLASSES), Path(), start="scratch", epochs=epochs)
    figures: dict[str, Any] = {"clusters": len(part.table), "epochs": epochs}
    for name, where in (("device", device), ("cpu", "cpu")):
        seconds, _, model = once(
            lambda where=where: train_in_memory(replace(request, device=where), part, CLASSES, None)
        )
        figures[f"{name}_s"] = seconds
        figures[f"{name}_epochs"] = model[0].training["history"][-1]
    return figures


def adapted(device: str, images: int) -> dict[str, Any]:
    """Seconds of an adaptation to the images of a session, as the window does it.

    Some labels are corrected to a wrong class: a network that is right already is not fitted.
    """
    drawn = draw_session("mixture", CLASSES, images, SEED)
    fields = [f.micrograph for f in simulate_session(lattice_pieces(SIZES), drawn)]
    figures: dict[str, Any] = {"images": images}
    for name, where in (("device", device), ("cpu", "cpu")):
        found = analyse(fields, device=where, umap=False, progress=False)
        corrected = [replace(a, table=with_wrong_labels(a.table)) for a in found]
        figures["clusters"] = sum(len(a.table) for a in corrected)
        seconds, _, result = once(
            lambda corrected=corrected, where=where: adapt_images(corrected, device=where)
        )
        figures |= {f"{name}_s": seconds, f"{name}_accepted": result.accepted}
        figures["corrections"] = result.corrections
    return figures


def with_wrong_labels(table: pd.DataFrame, n: int = 3) -> pd.DataFrame:
    """Correct the first clusters of the smallest class to the largest."""
    given = np.full(len(table), "", object)
    given[np.flatnonzero(table["label"] == CLASSES[0])[:n]] = CLASSES[-1]
    return settle_labels(table.assign(label_corrected=given))


def atoms(device: str, size: int, repeats: int) -> dict[str, Any]:
    """Seconds to find the atoms of an image, and how many both devices find."""
    pixels, _ = simulate_field_of_atoms(size, np.random.default_rng(7))
    micrograph = Micrograph(pixels, SAMPLING_NM, name="benchmark")
    found, figures = {}, {"size_px": size}
    for name, where in (("device", device), ("cpu", "cpu")):
        figures[f"{name}_s"], found[name] = timed(
            torch.device(where), lambda where=where: find_atoms(micrograph, device=where), repeats
        )
    ours, alone = (a.table[["y_px", "x_px"]].to_numpy(float) for a in found.values())
    same = int((match_nearest(ours, alone, 1.0) >= 0).sum())
    return {**figures, "atoms": len(alone), "differ": len(ours) + len(alone) - 2 * same}


# ---- faults and shared cards, in processes of their own
def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function in a process that ends with it, or its error."""
    with spawn_pool(1) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except Exception as error:  # an error is a result
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def rate(device: str, n: int, repeats: int, start: float) -> tuple[float, float]:
    """When a process began and ended to classify patches, after it was ready; seconds."""
    classifier = load_classifier("default", device)
    patches = made_up(classifier, n)
    classifier.predict(patches)
    time.sleep(max(0.0, start - time.monotonic()))
    begin = time.monotonic()
    for _ in range(repeats):
        classifier.predict(patches)
    return begin, time.monotonic()


def shared(device: str, n: int, repeats: int) -> dict[str, float]:
    """Patches per second of one process, and of two that share the card."""
    rates = {}
    for count in (1, 2):
        start = time.monotonic() + (18 if device == "cuda" else 15)
        with spawn_pool(count) as pool:
            jobs = [pool.submit(rate, device, n, repeats, start) for _ in range(count)]
            begins, ends = zip(*(job.result() for job in jobs), strict=True)
        rates[f"{count}_patches_per_s"] = count * n * repeats / (max(ends) - min(begins))
    return rates


def differences(ours: Any, other: Any) -> dict[str, Any]:
    """Labels that differ between two tables of the same clusters."""
    return {
        "clusters": len(other),
        "labels_differ": int((ours["label"].to_numpy() != other["label"].to_numpy()).sum()),
    }


def little_memory(size: int, clusters: int, gib: float) -> dict[str, Any]:
    """A field on a card of which this process gets ``gib`` only, beside the CPU."""
    micrograph = field(size, clusters)
    alone = classify_clusters(detect_clusters(micrograph), load_classifier("default", "cpu"))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(gib * GIB / total)
    classifier = load_classifier("default", "cuda")
    ours = classify_clusters(detect_clusters(micrograph), classifier)
    about = {"batch": classifier.batch_size, "device": classifier.device_name}
    return {"gib": gib, **about, **differences(ours.table, alone.table)}


def full_card(left_gib: float, size: int, clusters: int, device: str) -> dict[str, Any]:
    """A field on a card that another process has filled but for ``left_gib``."""
    alone = classify_clusters(
        detect_clusters(field(size, clusters)), load_classifier("default", "cpu")
    )
    with spawn_pool(1) as other:
        other.submit(fill, left_gib).result()
        found = in_process(on_full_card, size, clusters, device)
    if "error" in found:
        return found
    return {"left_gib": left_gib, "device": found["device"], **differences(found, alone.table)}


_filled: list[torch.Tensor] = []


def fill(left_gib: float) -> None:
    free, _ = torch.cuda.mem_get_info()
    _filled.append(torch.empty(int(free - left_gib * GIB), dtype=torch.uint8, device="cuda"))


def on_full_card(size: int, clusters: int, device: str) -> dict[str, Any]:
    analysis = analyse(field(size, clusters), device=device, umap=False, progress=False)
    return {"device": analysis.parameters["device"], "label": analysis.table["label"]}


def lost(size: int, clusters: int) -> dict[str, Any]:
    """A field whose device is lost: by an index out of range, which CUDA does not recover from."""
    micrograph = field(size, clusters)
    classifier = load_classifier("default", "cuda")
    found = detect_clusters(micrograph)
    on_device = classify_clusters(found, classifier)
    try:
        torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].cpu()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    ours = classify_clusters(found, classifier)
    again = analyse(micrograph, umap=False, progress=False)
    return {
        "reason": reason,
        "device": classifier.device_name,
        "device_of_next": again.parameters["device"],
        **differences(ours.table, on_device.table),
    }


def faults(size: int, clusters: int) -> dict[str, Any]:
    return {
        "1 GiB for this process": in_process(little_memory, size, clusters, 1.0),
        "0.1 GiB for this process": in_process(little_memory, size, clusters, 0.1),
        "another process leaves 0.7 GiB": full_card(0.7, size // 2, clusters // 8, "cuda"),
        "another process leaves 0.05 GiB": full_card(0.05, size // 2, clusters // 8, "auto"),
        "device lost": in_process(lost, size // 2, clusters // 8),
    }


def main() -> None:
    given = options(  # 0: what suits the device
        __doc__, device="cuda" if torch.cuda.is_available() else "cpu", size=0, clusters=0,
        patches=0, repeats=5, sessions=0, fields=0, epochs=0, compare=False, only=[""],
    )  # fmt: skip
    small = given.device == "cpu"
    if small:
        print("proof of the script on a CPU, no measurement of a GPU", flush=True)
    about = machine()
    patches = given.patches or (256 if small else 65536)
    size = given.size or (512 if small else 4096)
    clusters = given.clusters or (20 if small else 5000)
    fields, epochs = given.fields or (10 if small else 40), given.epochs or (2 if small else 5)
    steps: dict[str, Callable[[], Any]] = {
        "network": lambda: network(given.device, patches, given.repeats),
        "field": lambda: whole_field(given.device, size, clusters, given.repeats),
        "tables": lambda: by_kind(
            load_classifier("default", "cpu"),
            {"GPU": load_classifier("default", given.device)},
            given.sessions or (1 if small else 2),
            4,
        )["GPU"],
        "training": lambda: trained(given.device, fields, epochs),
        "adaptation": lambda: adapted(given.device, 2 if small else 8),
        "atoms": lambda: atoms(given.device, 256 if small else 1024, given.repeats),
        "shared": lambda: shared(given.device, patches, given.repeats),
    }
    if not small:
        steps["faults"] = lambda: faults(size, clusters)
    if given.compare:
        steps["compare"] = lambda: compared(given.device)
    some = [name for name in given.only if name in steps]
    path = RESULTS / ("gpu_proof.json" if small else "gpu.json")
    kept = json.loads(path.read_text()) if some and path.exists() else {}
    figures = {name: kept[name] for name in steps if name in kept}
    for name in some or steps:
        begin = time.perf_counter()
        figures[name] = steps[name]()
        print(f"{name} ({time.perf_counter() - begin:.0f} s): {figures[name]}", flush=True)
    write("gpu_proof" if small else "gpu", figures, about)


if __name__ == "__main__":
    main()
