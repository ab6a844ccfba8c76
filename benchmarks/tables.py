"""How the record of a benchmark is written as Markdown, and in which page it belongs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Record = dict[str, Any]

TOO_LONG_MS = 50
"""A turn of the window's loop that a person feels."""


class Section(NamedTuple):
    """Where the tables of a benchmark stand, and who writes them from its record."""

    page: str
    write: Callable[[Record], str]

    def text(self, record: Record) -> str:
        return f"{machine(record['machine'])}\n\n{self.write(record)}"


def table(head: list[str], rows: Iterable[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine(about: Record) -> str:
    cuda = f", {about['cuda']}" if about["cuda"] else ""
    return (
        f"*{about['processor']}, {about['cores']} cores, threads: {about['threads']}, "
        f"{about['memory_gib']:g} GiB; Python {about['python']}, torch {about['torch']}{cuda}; "
        f"{about['date']}, load before: {about['load_before']:g}.*"
    )


def both(times: dict[str, float]) -> list[str]:
    return [f"{times['wall_s']:.2f}", f"{times['cpu_s']:.2f}"]


def yes(said: bool) -> str:
    return "yes" if said else "no"


# ---- an analysis
def speed(record: Record) -> str:
    rows = [
        [
            f"{field['size']} × {field['size']}, {field['pixel_nm']:g} nm", field["clusters"],
            *(f"{field['total'][who]['wall_s']:.2f}" for who in ("ours", "obvious")),
            f"**{field['ratio_wall']:.1f}**", f"{field['ratio_cpu']:.1f}",
            yes(field["same_class_maps"]),
        ]
        for field in record["fields"]
    ]  # fmt: skip
    head = ["pixels", "clusters", "package (s)", "reference (s)", "times faster",
            "times less processor time", "identical class maps"]  # fmt: skip
    field = record["fields"][-1]
    theirs = field["obvious_stages"]
    beside = {
        "scale space": "detect", "outlines": "outlines", "patches": "patches",
        "network with class maps": "network",
    }  # fmt: skip
    stages = [
        [name, *both(times), *(both(theirs[beside[name]]) if name in beside else ["", ""])]
        for name, times in field["stages"].items()
    ]
    return (
        table(head, rows) + f"\n\nStages with {field['clusters']:,} clusters, medians of "
        f"{field['total']['ours']['runs']}:\n\n"
        + table(["stage", "package (s)", "processor (s)", "reference (s)", "processor (s)"], stages)
    )


def large(record: Record) -> str:
    rows = [
        [
            name, case["clusters"], f"{case['wall_s']:.0f}", f"{case['cpu_s']:.0f}",
            f"{case['peak_mib']:.0f}", f"{case['peak_mib'] - case['start_mib']:.0f}",
            f"{case['longest_without_progress_s']:.1f}", yes(case["same_table"]),
        ]
        for name, case in record["cases"].items()
    ]  # fmt: skip
    head = [
        "image", "found", "elapsed (s)", "processor (s)", "peak (MiB)",
        "above start (MiB)", "longest without progress (s)", "same table",
    ]  # fmt: skip
    return (
        f"{record['size']} × {record['size']} pixels, {record['image_mib']:.0f} MiB, "
        f"{record['clusters']} clusters.\n\n" + table(head, rows)
    )


def growth(record: Record) -> str:
    exponents, side = record["exponents"], record["clusters"][0]["side"]
    last = {of: record[of][-1] for of in ("sides", "clusters", "images")}
    rows = [
        ["pixels", f"{exponents['pixels']:.2f}",
         f"{last['sides']['side']} × {last['sides']['side']}, 100 clusters", *both(last["sides"])],
        ["clusters", f"{exponents['clusters']:.2f}",
         f"{last['clusters']['found']:,} clusters in {side} × {side}", *both(last["clusters"])],
        ["images", f"{exponents['images']:.2f}",
         f"{last['images']['images']:,} images with {last['images']['clusters']:,} clusters",
         *both(last["images"])],
    ]  # fmt: skip
    return table(["in", "exponent", "largest", "total (s)", "processor (s)"], rows)


def startup(record: Record) -> str:
    rows = [[f"`{name}`", f"{s:.2f}"] for name, s in record["processes"].items()]
    rows += [
        [f"{what} {int(key.split('_')[1]):,} clusters", f"{value:.1f}"]
        for what, start in (("place in the map:", "place"), ("fit a new map of", "fit"))
        for key, value in record["map"].items()
        if re.fullmatch(rf"{start}_\d+_s", key)
    ]
    if "window" in record:
        window = record["window"]
        rows += [
            ["napari's window", f"{window['window_s']:.1f}"],
            ["first opening of the workbench in it", f"{window['workbench_s']:.1f}"],
            ["longest turn of its event loop meanwhile", f"{window['workbench_turn_s']:.2f}"],
            ["first result in it, with positions in the map, from a click 5 s later",
             f"{window['result_s']:.1f}"],
        ]  # fmt: skip
    return table(["", "seconds"], rows)


def precision(record: Record) -> str:
    kinds = record["kinds"]
    parts = []
    if "network_ms" in record:
        exact, short = (record["network_ms"][name] for name in ("cpu", "cpu-bf16"))
        parts += [
            f"A patch with class maps takes {exact:.2f} ms of a core in 32-bit and {short:.2f} ms "
            f"in 16-bit numbers, **{exact / short:.2f} times** less.",
            differing_sessions(kinds["cpu-bf16"]),
        ]
    parts += [
        "With the rounding of TF32, which a GPU uses:", differing_sessions(kinds["TF32"]),
        "With the last three of 23 bits dropped:", differing_sessions(kinds["20 bits"]),
    ]  # fmt: skip
    return "\n\n".join(parts)


def differing_sessions(kinds: list[Record]) -> str:
    """What differs between two devices, by kind of session."""
    rows = [
        [k["kind"], f"{k['sessions']:.0f}", f"{k['clusters']:.0f}", f"{k['labels']:.0f}",
         f"{k['close_calls']:.0f}", f"{k['probability']:.3f}", f"{k['fraction']:.3f}",
         f"{k['interval']:.3f}"]
        for k in kinds
    ]  # fmt: skip
    head = ["sessions of", "sessions", "clusters", "labels that differ", "of these close calls",
            "largest change of a probability", "of a fraction", "of its interval"]  # fmt: skip
    return table(head, rows)


# ---- a GPU
def gpu(record: Record) -> str:
    """All that was measured; a record holds some of these figures at least."""
    sections = {
        "network": gpu_network, "field": gpu_field, "tables": gpu_tables, "shared": gpu_shared,
        "faults": gpu_faults, "compare": compared,
    }  # fmt: skip
    work = {name: record[name] for name in ("training", "adaptation", "atoms") if name in record}
    parts = [text(record[name]) for name, text in sections.items() if name in record]
    return "\n\n".join([*parts[:2], *([gpu_work(work)] if work else []), *parts[2:]])


def gpu_network(net: Record) -> str:
    head = [f"{net['patches']:,} patches with class maps, from {net['patches_in']}",
            "patches per s", "largest difference of a probability from the CPU"]  # fmt: skip
    rows = [
        [name, f"{way['patches_per_s']:,.0f}", f"{way['largest_change']:.1g}"]
        for name, way in net["ways"].items()
    ]
    return (
        f"{table(head, rows)}\n\n"
        f"A patch needs {net['mflop_per_patch']:.0f} MFLOP and {net['kb_per_patch']:,.0f} kB. In "
        f"float32 a large matrix product reaches {net['roof_tflop_per_s']:.3g} TFLOP/s, a large "
        f"copy {net['roof_gb_per_s']:,.0f} GB/s. With batches of {net['batch']} the network "
        f"reaches {100 * net['share_of_roof']:.0f} % of the roofline, which is limited by "
        f"{'operations' if net['bound_by'] == 'operations' else 'memory'}."
    )


def gpu_field(field: Record) -> str:
    stages = {
        "detection, on the CPU": "detect_s",
        "patches, on the CPU": "patches_s",
        "network with class maps": "network_s",
        "intensity of an atom, on the CPU": "scale_by_cpu_s",
        "labels, on the CPU": "conclusion_by_cpu_s",
        "**end to end**": "end_to_end_s",
        "end to end on the CPU only": "end_to_end_by_cpu_s",
    }
    rows = [[name, f"{1e3 * field[key]:.1f}"] for name, key in stages.items() if key in field]
    size = f"{field['size_px']} × {field['size_px']} pixels, {field['clusters']:,} clusters"
    memory = f" Peak memory: {field['peak_gb']:.1f} GB." if "peak_gb" in field else ""
    differ = f"{field['labels_differ_from_cpu']} labels differ from those of the CPU."
    return f"{table([size, 'ms'], rows)}\n\n{differ}{memory}"


def gpu_work(work: Record) -> str:
    """Training, adaptation and atoms on both devices."""
    names = {
        "training": "training from random weights, {clusters:,} clusters, {epochs} epochs",
        "adaptation": "adaptation to {images} images, {clusters} clusters",
        "atoms": "atoms of {size_px} × {size_px} pixels: {atoms} found, {differ} differ",
    }
    rows = [
        [names[name].format(**found), f"{found['device_s']:.2f}", f"{found['cpu_s']:.2f}",
         f"{found['cpu_s'] / found['device_s']:.1f}"]
        for name, found in work.items()
    ]  # fmt: skip
    return table(["", "GPU (s)", "CPU (s)", "times faster"], rows)


def gpu_tables(kinds: list[Record]) -> str:
    return "Simulated sessions on the GPU, compared with the CPU:\n\n" + differing_sessions(kinds)


def gpu_shared(rates: Record) -> str:
    one, two = rates["1_patches_per_s"], rates["2_patches_per_s"]
    return (
        f"Two processes that share the card classify {two:,.0f} patches per s together, one "
        f"classifies {one:,.0f}."
    )


def gpu_faults(faults: Record) -> str:
    """What happens without memory or device; an error is given as it is."""
    rows = [
        [name, found["error"], "", ""] if "error" in found
        else [name, found["device"], str(found.get("batch", "")),
              f"{found['labels_differ']} of {found['clusters']:,}"]
        for name, found in faults.items()
    ]  # fmt: skip
    return table(["fault", "computed on", "patches per batch", "labels that differ"], rows)


def compared(found: Record) -> str:
    """The network by torch.compile and as a CUDA graph; what failed says why."""
    ways = {"as_it_is": "PyTorch", "torch_compile": "torch.compile", "cuda_graph": "CUDA graph"}
    rows = [
        [shown, f"{found[f'{key}_patches_per_s']:,.0f}", f"{found[f'{key}_ready_s']:.1f}"]
        if f"{key}_patches_per_s" in found else [shown, found[key], ""]
        for key, shown in ways.items() if f"{key}_patches_per_s" in found or key in found
    ]  # fmt: skip
    head = [f"one batch of {found['batch']}, on the device", "patches per s", "ready after (s)"]
    return table(head, rows)


def gpu_proof(record: Record) -> str:
    return (
        f"The script was last run on a CPU on {record['machine']['date']}, with small sizes. This "
        "tests the script; it is no measurement of a GPU."
    )


# ---- the window
def window(record: Record) -> str:
    counts = list(dict.fromkeys(row["clusters"] for row in record["rows"]))
    ms = {(row["action"], row["clusters"]): row["ms"] for row in record["rows"]}
    actions = dict.fromkeys(row["action"] for row in record["rows"])
    head = ["action", *(f"{n:,} clusters" for n in counts)]
    return table(head, [[a, *(turn_and_done(ms.get((a, n))) for n in counts)] for a in actions])


def turn_and_done(ms: list[float] | None) -> str:
    """The longest turn and the time until all is done; a turn that is too long is bold."""
    if ms is None:
        return ""
    turn, _, _, done = ms
    return f"**{turn:.0f}**, {done:.0f}" if turn > TOO_LONG_MS else f"{turn:.0f}, {done:.0f}"


def day(record: Record) -> str:
    projects = record["projects"]
    head = ["action", *(f"{p['clusters']:,} clusters, {p['images']} images" for p in projects)]
    names = dict.fromkeys(a["action"] for p in projects for a in p["actions"])
    actions = [{a["action"]: a for a in p["actions"]} for p in projects]
    rows = [[name, *(turn_and_done(of.get(name, {}).get("ms")) for of in actions)]
            for name in names]  # fmt: skip
    rows += [
        [f"{name}: displayed after (s)",
         *(f"{of[name]['shown_s']:.2f}" if "shown_s" in of.get(name, {}) else "" for of in actions)]
        for name in names if any("shown_s" in of.get(name, {}) for of in actions)
    ]  # fmt: skip
    memory = [f"{p['memory_mib']:,.0f}" if "memory_mib" in p else "" for p in projects]
    rows.append(["memory, at most (MiB)", *memory])
    causes = [
        f"- {a['action']} ({p['clusters']:,} clusters): {blocks(a['blocks'])}"
        for p in projects
        for a in p["actions"]
        if a["blocks"]
    ]
    return "\n\n".join([
        table(head, rows),
        f"Turns over {TOO_LONG_MS} ms, processor time of elapsed time, and where it was spent:",
        "\n".join(causes),
    ])  # fmt: skip


def blocks(found: list[Record]) -> str:
    return "; ".join(
        f"{b['times']} × {b['where']}: {b['cpu_ms']:.0f} of {b['wall_ms']:.0f} ms" for b in found
    )


def walk(record: Record) -> str:
    """How far edits travel, beside version 0.1."""
    shown = " shown" if record["shown"] else " hidden"
    parts = []
    for edit, now in record["edits"].items():
        before = WALK_OF_0_1.get((edit, record["shown"]), {})
        rows = [[words, *(f"{of[key]:,}" if of else "" for of in (before, now))]
                for key, words in WALK_FIGURES.items()]  # fmt: skip
        entered = [", ".join(f"`{file}` {n}" for file, n in of.get("entered", {}).items())
                   for of in (before, now)]  # fmt: skip
        rows.append(["most entered files", *entered])
        parts.append(table([f"{edit}, window{shown}", "version 0.1", "now"], rows))
    return "\n\n".join(parts)


def gallery(record: Record) -> str:
    keys = ("ready", "scrolling", "scrolling_most", "jumping", "jumping_most")
    return table(
        ["way", "clusters", "ready (ms)", "scrolling (ms)", "at most", "jumping (ms)", "at most",
         "unfinished", "memory (MiB)"],
        [
            [w["way"], w["clusters"], f"{w['ready']:.0f}", *(f"{w[k]:.1f}" for k in keys[1:]),
             w["unfinished"], f"{w['memory_mib']:.0f}"]
            for w in record["ways"]
        ],
    )  # fmt: skip


def scatter(record: Record) -> str:
    actions = dict.fromkeys(r["action"] for r in record["rows"])
    ms = {(r["points"], r["action"]): (r["ours_ms"], r["matplotlib_ms"]) for r in record["rows"]}
    rows = [
        [f"{points:,}", *("{:.1f}, {:.1f}".format(*ms[points, a]) for a in actions)]
        for points in dict.fromkeys(r["points"] for r in record["rows"])
    ]
    return table(["points", *(f"{a} (ms)" for a in actions)], rows)


# ---- many images
def batch(record: Record) -> str:
    found = record["batches"]
    rows = [
        [
            f["workers"], f"{f['rate']:.1f}", f"{f['efficiency']:.2f}", f"{f['whole_s']:.0f}",
            *(f"{f[who + '_early']:.0f} → {f[who + '_late']:.0f}, at most {f[who + '_most']:.0f}"
              for who in ("client", "worker")),
        ]
        for f in found
    ]  # fmt: skip
    rows.append(["without workers", f"{record['serial_rate']:.1f}", "", "", "", ""])
    head = ["workers", "images per s", "efficiency", "whole (s)", "client (MiB)", "worker (MiB)"]
    grown = ", ".join(f"{f['worker_late'] - f['worker_early']:.0f} MiB ({f['workers']})"
                      for f in found)  # fmt: skip
    return (
        f"{record['images']:,} simulated images of {record['size_px']} × {record['size_px']} "
        f"pixels with {found[0]['clusters']:,} clusters, without the map:\n\n"
        + table(head, rows)
        + "\n\nMemory is given for the second and for the last tenth of the run. In between, a "
        f"worker grew by (workers): {grown}. A second run without new images takes "
        f"{record['second_run_s']:.1f} s. The size of the report is {record['report_mib']:.1f} "
        "MiB."
    )


def live(record: Record) -> str:
    clusters = next(iter(record["sessions"].values()))["clusters"]
    rows = [
        [name, f"{f['median_s']:.2f}", f"{f['worst_s']:.2f}", f"{f['analysis_s']:.2f}"]
        for name, f in record["sessions"].items()
    ]
    return (
        f"{record['files']} files of {record['size']} × {record['size']} pixels with "
        f"{clusters:.0f} clusters each, written in pieces:\n\n"
        + table(["session", "median (s)", "worst (s)", "of which analysis (s)"], rows)
    )


# ---- atoms and simulation
def atoms(record: Record) -> str:
    rows = [[name, f"{s:.2f}"] for name, s in record["seconds"].items()]
    return (
        f"An image of {record['size']} × {record['size']} pixels with {record['marked_atoms']} "
        f"atoms; networks: {record['members']}, views: {record['views']}. A sliding window of "
        f"{record['window_px']} pixels takes **{record['ratio']:.0f} times** as long.\n\n"
        + table(["", "seconds"], rows)
    )


def simulation(record: Record) -> str:
    of_atoms = record["atoms"]
    rows = [["patches per minute of processor time",
             f"{record['patches_per_processor_minute']:.0f}"]]  # fmt: skip
    rows += [
        [f"patches (fields) per minute of elapsed time, processes: {run['workers']}",
         f"{run['patches_per_minute']:.0f} ({run['fields_per_minute']:.0f})"]
        for run in record["workers"]
    ]  # fmt: skip
    rows += [
        [f"a field of {record['field_px']} × {record['field_px']} pixels",
         f"{record['field_s']:.2f} s"],
        [f"{of_atoms['atoms']} atoms in it, compared with a shift of the field per atom",
         f"{of_atoms['obvious_s'] / of_atoms['ours_s']:.0f} times as fast"],
        ["correlation of these two images", f"{of_atoms['correlation']:.4f}"],
        ["relief of the support, compared with interpolation of the image",
         f"{record['relief_ratio']:.0f} times as fast"],
    ]  # fmt: skip
    if "large_field_ratio" in record:
        rows.append(["a field of 4096 × 4096 pixels on the GPU, compared with the CPU",
                     f"{record['large_field_ratio']:.1f} times as fast"])  # fmt: skip
    return table(["", ""], rows)


WALK_FIGURES = {
    "calls": "calls", "calls_in_workers": "of these in workers",
    "frames": "calls with lambdas, comprehensions and resumed generators",
    "frames_in_workers": "of these in workers", "files": "files", "moves": "moves between files",
}  # fmt: skip
WALK_OF_0_1: dict[tuple[str, bool], Record] = {
    ("label key", False): {
        "calls": 453,
        "calls_in_workers": 0,
        "frames": 711,
        "frames_in_workers": 0,
        "files": 49,
        "moves": 216,
        "entered": {
            "session.py": 80,
            "palette.py": 31,
            "widgets/parts/following.py": 23,
            "widgets/viewer/binding.py": 14,
            "widgets/viewer/layers.py": 6,
            "widgets/viewer/marks.py": 6,
            "table.py": 6,
            "edits.py": 4,
            "catalogue.py": 4,
            "widgets/parts/forms.py": 4,
        },
    },
    ("Classify", False): {
        "calls": 2046,
        "calls_in_workers": 953,
        "frames": 2977,
        "frames_in_workers": 1520,
        "files": 76,
        "moves": 743,
        "entered": {
            "session.py": 185,
            "widgets/parts/forms.py": 92,
            "widgets/parts/drawing.py": 80,
            "widgets/parts/following.py": 34,
            "palette.py": 31,
            "statistics/scores.py": 30,
            "widgets/parts/tasks.py": 28,
            "table.py": 18,
            "widgets/viewer/binding.py": 16,
            "model/intensity_scale.py": 12,
        },
    },
    ("label key", True): {
        "calls": 797,
        "calls_in_workers": 0,
        "frames": 1200,
        "frames_in_workers": 0,
        "files": 65,
        "moves": 355,
        "entered": {
            "session.py": 104,
            "palette.py": 35,
            "widgets/gallery/grid.py": 29,
            "widgets/parts/following.py": 23,
            "widgets/viewer/binding.py": 19,
            "widgets/gallery/view.py": 15,
            "widgets/parts/cluster_rows.py": 13,
            "widgets/plots/scatter.py": 11,
            "widgets/viewer/layers.py": 9,
            "widgets/parts/glyphs.py": 8,
        },
    },
    ("Classify", True): {
        "calls": 2471,
        "calls_in_workers": 959,
        "frames": 3616,
        "frames_in_workers": 1526,
        "files": 95,
        "moves": 927,
        "entered": {
            "session.py": 230,
            "widgets/parts/forms.py": 94,
            "widgets/parts/drawing.py": 82,
            "widgets/parts/following.py": 38,
            "palette.py": 38,
            "widgets/parts/tasks.py": 33,
            "statistics/scores.py": 30,
            "widgets/viewer/binding.py": 21,
            "widgets/browse/image_list.py": 20,
            "table.py": 18,
        },
    },
}
"""Figures of version 0.1, of each edit with the window hidden or shown."""

PERFORMANCE = "explanation/performance.md"


# ---- damaged files
def fuzz(record: Record) -> str:
    outcomes = record["outcomes"]
    rows = [
        [kind, f"{sum(counts.values()):,}", *(f"{counts.get(name, 0):,}" for name in outcomes)]
        for kind, counts in record["kinds"].items()
    ]
    total = [sum(counts.get(name, 0) for counts in record["kinds"].values()) for name in outcomes]
    rows.append(["**all**", f"{sum(total):,}", *(f"{n:,}" for n in total)])
    failed = "; ".join(f"`{case}` {text}" for case, text in record["failed"].items())
    n = record["repeated"]
    again = f" {n} of them failed at first and were tried again after corrections." if n else ""
    return (
        f"Version {record['version']}. All cases together took {record['minutes']:.0f} minutes of "
        f"one process.{again}\n\n"
        + table(["kind", "tried", *outcomes], rows)
        + (f"\n\nCases that failed, at most one of each message: {failed}." if failed else "")
    )


TRIALS = {
    "state": "processes that correct labels without a window, killed",
    "full disk": "processes that correct labels on a full disk, killed",
    "six writers": "six processes that write to one project at once, labels of each",
    "batches": "batches that are killed once or twice and continued (acknowledged: images)",
}
"""Trials of a record of `kills`, and their descriptions."""


def kills(record: Record) -> str:
    windows = record["windows"]
    rows = [["windows that correct labels by keys, killed", windows["windows"],
             windows["acknowledged"]]]  # fmt: skip
    others = record["others"]
    rows += [[text, others[name]["tried"], others[name]["acknowledged"]]
             for name, text in TRIALS.items() if name in others]  # fmt: skip
    return (
        f"Version {record['version']}, {record['minutes']:.0f} minutes. Of the windows, "
        f"{windows['before_first_edit']:,} were killed before the first correction was saved, and "
        f"{windows['in_analyse_all']:,} while *Analyse all* was running.\n\n"
        + table(
            ["what", "tried", "acknowledged", "lost"],
            [[what, f"{tried:,}", f"{acknowledged:,}", 0] for what, tried, acknowledged in rows],
        )
    )


SECTIONS = {
    "speed": Section(PERFORMANCE, speed),
    "precision": Section(PERFORMANCE, precision),
    "gpu": Section(PERFORMANCE, gpu),
    "gpu_proof": Section(PERFORMANCE, gpu_proof),
    "growth": Section(PERFORMANCE, growth),
    "large": Section(PERFORMANCE, large),
    "startup": Section(PERFORMANCE, startup),
    "window": Section(PERFORMANCE, window),
    "day": Section(PERFORMANCE, day),
    "walk": Section("explanation/architecture.md", walk),
    "gallery": Section(PERFORMANCE, gallery),
    "scatter": Section(PERFORMANCE, scatter),
    "batch": Section("explanation/many_images.md", batch),
    "live": Section("explanation/many_images.md", live),
    "atoms": Section("explanation/atoms.md", atoms),
    "simulation": Section("explanation/simulation.md", simulation),
    "fuzz": Section("explanation/reliability.md", fuzz),
    "kills": Section("explanation/reliability.md", kills),
}
"""Name of a record, and of the marks around its tables."""
