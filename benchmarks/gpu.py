"""Patches and network on a GPU: patches per second, a large field end to end, share of the roof.

    python benchmarks/gpu.py [--size 4096] [--clusters 5000] [--patches 65536] [--compare]

Needs a CUDA device. Where there is none, or with ``--device cpu``, the same steps are gone through
on the CPU with a small load: a proof of the script, which measures nothing of a GPU and is kept as
a record of its own.

Detection runs on the CPU; patches are cut and the network computes on the device. The network is
beside the same in float32 with the batches of a CPU, and the field beside the CPU alone. Operations
are counted by PyTorch's own counter, bytes as what every layer reads and writes in the precision it
is computed in; the roofs are those that a large matrix product and a large copy reach on this
device in the same run, not those of a data sheet. ``--compare`` puts torch.compile
and a CUDA graph beside the network as it is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fields import field
from measuring import machine, options, write
from napari_atomicity.detection.device_patches import as_arrays, patches_on_device
from napari_atomicity.models.inference import Classifier, load_classifier
from napari_atomicity.models.scale.intensity_scale import fit_image
from napari_atomicity.models.scaled_predictions import assign_labels
from napari_atomicity.pipeline.analysis import classify_clusters, detect_clusters

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


def made_up(classifier: Classifier, n: int) -> dict[str, torch.Tensor]:
    """Patches on the device, of noise: the network takes as long for them as for clusters."""
    size = classifier.card.patches.size_px
    generator = torch.Generator().manual_seed(0)
    return {
        c: torch.randn((n, size, size), generator=generator).add_(5).to(classifier.device)
        for c in classifier.network.channels
    }


@torch.inference_mode()
def work(classifier: Classifier, n: int = 8) -> tuple[float, float]:
    """FLOP, and bytes that the layers read and write, for one patch."""
    patches = made_up(classifier, n)
    moved = 0
    width = 2 if classifier.half is not None else 4

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal moved
        moved += width * (sum(x.numel() for x in inputs) + output.numel())
        moved += width * sum(p.numel() for p in module.parameters()) * n // 512

    hooks = [m.register_forward_hook(count) for m in classifier.network.modules()
             if isinstance(m, LEAVES)]  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        classifier._computed(patches, None, classifier.half)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() / n, moved / n


def roofs(device: torch.device, dtype: torch.dtype, edge: int) -> tuple[float, float]:
    """FLOP and bytes per second that a matrix product and a copy reach here."""
    a, b = (torch.randn((edge, edge), device=device).to(dtype) for _ in range(2))
    product, _ = timed(device, lambda: a @ b, 5)
    source = torch.empty(edge * edge * 4, device=device)
    target = torch.empty_like(source)
    copy, _ = timed(device, lambda: target.copy_(source), 5)
    return 2 * edge**3 / product, 2 * source.numel() * 4 / copy


def network(device: str, n: int, repeats: int) -> dict[str, Any]:
    """Patches per second with both class maps, from the device's memory to ours."""
    ours = load_classifier("default", device)
    patches = made_up(ours, n)
    seconds, short = timed(ours.device, lambda: ours.predict(patches), repeats)
    on_device, _ = timed(
        ours.device,
        lambda: [
            ours._computed({c: x[i : i + ours.batch_size] for c, x in patches.items()}, None,
                           ours.half)[0]
            for i in range(0, n, ours.batch_size)
        ],
        repeats,
    )  # fmt: skip
    flop, moved = work(ours)
    edge = 8192 if ours.device.type == "cuda" else 1024
    roof_flop, roof_bytes = roofs(ours.device, ours.half or torch.float32, edge)
    few = {c: x[: max(1, n // 8)] for c, x in patches.items()}
    averaged, _ = timed(ours.device, lambda: ours.predict(few, symmetries=True), repeats)
    half, size = ours.half, ours.batch_size
    ours.half, ours.batch_size = None, 64
    try:
        plain, whole = timed(ours.device, lambda: ours.predict(patches), max(1, repeats // 2))
    finally:
        ours.half, ours.batch_size = half, size
    least = max(flop / roof_flop, moved / roof_bytes)
    return {
        "patches": n,
        "batch": size,
        "precision": str(half or torch.float32).removeprefix("torch."),
        "patches_per_s": n / seconds,
        "patches_per_s_on_device": n / on_device,
        "plain_patches_per_s": n / plain,
        "symmetries_patches_per_s": len(next(iter(few.values()))) / averaged,
        "labels_differ": int(
            (short.probabilities.argmax(1) != whole.probabilities.argmax(1)).sum()
        ),
        "largest_difference": float(np.abs(short.probabilities - whole.probabilities).max()),
        "mflop_per_patch": flop / 1e6,
        "kb_per_patch": moved / 1e3,
        "roof_tflop_per_s": roof_flop / 1e12,
        "roof_gb_per_s": roof_bytes / 1e9,
        "bound_by": "operations" if flop / roof_flop > moved / roof_bytes else "memory",
        "share_of_roof": least * n / on_device,
    }


def compared(device: str) -> dict[str, Any]:
    """Patches per second of one batch with class maps: as it is, compiled, and as a CUDA graph."""
    classifier = load_classifier("default", device)
    n = classifier.batch_size
    batch = made_up(classifier, n)

    @torch.inference_mode()
    def forward() -> Any:
        return classifier._computed(batch, None, classifier.half)

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
        where, lambda: patches_on_device(where, micrograph, found.table, settings), repeats
    )
    table["patches_to_memory_s"], _ = timed(where, lambda: as_arrays(patches), repeats)
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


def main() -> None:
    given = options(  # 0: what suits the device
        __doc__, device="cuda" if torch.cuda.is_available() else "cpu", size=0, clusters=0,
        patches=0, repeats=5, compare=False,
    )  # fmt: skip
    small = given.device == "cpu"
    if small:
        print("proof of the script on a CPU, no measurement of a GPU", flush=True)
    about = machine()
    found = network(given.device, given.patches or (256 if small else 65536), given.repeats)
    in_field = whole_field(
        given.device, given.size or (512 if small else 4096),
        given.clusters or (20 if small else 5000), given.repeats,
    )  # fmt: skip
    figures = {"device": given.device, "network": found, "field": in_field}
    if given.compare:
        figures["compare"] = compared(given.device)
    write("gpu_proof" if small else "gpu", figures, about)


if __name__ == "__main__":
    main()
