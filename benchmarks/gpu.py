"""What a GPU makes of it: patches per second, a large field end to end, share of the roofline.

    python benchmarks/gpu.py [--size 4096] [--clusters 5000] [--patches 65536] [--json FILE]

Needs a CUDA device and says so where there is none; ``--device cpu`` goes through the same steps
with a small load, which proves the script and measures nothing of a GPU.

Ours is beside the same network in float32 with the batches of a CPU. Operations are counted by
PyTorch's own counter, bytes as what every layer reads and writes in the precision it is computed
in; the roofs are those that a large matrix product and a large copy reach on this device in the
same run, not those of a data sheet. Detection is done by the CPU whatever the device, so that a
device never changes what is found; its time is listed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from napari_atomicity.analysis import classify_clusters, detect_clusters
from napari_atomicity.detection.device_patches import as_arrays, patches_on_device
from napari_atomicity.model.classifier import Classifier, Prediction, load_classifier
from napari_atomicity.model.devices import half_precision
from speed import field

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


def labels(prediction: Prediction) -> np.ndarray:
    return prediction.probabilities.argmax(axis=1)


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


def whole_field(device: str, size: int, clusters: int, repeats: int) -> dict[str, Any]:
    """A large field end to end, stage by stage, and the same with the CPU alone."""
    micrograph = field(size, clusters)
    detect_s, found = timed(torch.device("cpu"), lambda: detect_clusters(micrograph), 1)
    table: dict[str, Any] = {"size_px": size, "clusters": len(found.table), "detect_s": detect_s}
    results = {}
    for where in dict.fromkeys((device, "cpu")):
        classifier = load_classifier("default", where)
        seconds, results[where] = timed(
            classifier.device, lambda c=classifier: classify_clusters(found, c), repeats
        )
        table[f"patches_and_network_{where}_s"] = seconds
    ours, alone = results[device].table, results["cpu"].table
    table["labels_differ_from_cpu"] = int((ours["label"] != alone["label"]).sum())
    classifier = load_classifier("default", device)
    settings = classifier.card.patches
    table["patches_s"], _ = timed(
        classifier.device,
        lambda: patches_on_device(classifier.device, micrograph, found.table, settings),
        repeats,
    )
    table["patches_to_memory_s"], _ = timed(
        classifier.device,
        lambda: as_arrays(patches_on_device(classifier.device, micrograph, found.table, settings)),
        repeats,
    )
    table["end_to_end_s"] = detect_s + table[f"patches_and_network_{device}_s"]
    if device == "cuda":
        table["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        table["kept_gb"] = torch.cuda.memory_reserved() / 1e9
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--size", type=int)
    parser.add_argument("--clusters", type=int)
    parser.add_argument("--patches", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing measured (--device cpu tries the script)")
        return
    small = options.device == "cpu"
    machine = torch.cuda.get_device_name() if not small else platform.processor() or "CPU"
    result = {
        "device": machine,
        "torch": torch.__version__,
        "half": str(half_precision(torch.device(options.device))),
        "network": network(
            options.device, options.patches or (256 if small else 65536), options.repeats
        ),
        "field": whole_field(
            options.device,
            options.size or (512 if small else 4096),
            options.clusters or (20 if small else 5000),
            options.repeats,
        ),
    }
    print(f"{machine}, torch {torch.__version__}")
    for part in ("network", "field"):
        print(part)
        for name, value in result[part].items():
            shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(
                value, int
            ) else value  # fmt: skip
            print(f"    {name:<32} {shown}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
