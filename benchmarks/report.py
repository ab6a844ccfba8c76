"""Write the tables of docs/performance.md anew from benchmarks/results/*.json.

    python benchmarks/report.py

Between ``<!-- name -->`` and ``<!-- /name -->`` the page holds what ``results/name.json`` says;
where there is no such file it stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import RESULTS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(about: dict[str, Any]) -> str:
    return (
        f"*{about['processor']}, {about['cores']} cores, {about['threads']} threads, "
        f"{about['memory_gib']:g} GiB; Python {about['python']}, torch {about['torch']}"
        f"{', ' + about['cuda'] if about['cuda'] else ''}; load before: {about['load_before']:g}.*"
    )


def both(times: dict[str, float]) -> list[str]:
    return [f"{times['wall_s']:.2f}", f"{times['cpu_s']:.2f}"]


def speed(record: dict[str, Any]) -> str:
    out = []
    for field in record["fields"]:
        ours, obvious = field["total"]["ours"], field["total"]["obvious"]
        theirs = field["obvious_stages"]
        beside = {
            "scale space": "detect", "outlines": "outlines", "patches": "patches",
            "network with class maps": "network",
        }  # fmt: skip
        rows = [
            [name, *both(times), *(both(theirs[beside[name]]) if name in beside else ["", ""])]
            for name, times in field["stages"].items()
        ]
        rows.append(["**analyse without UMAP**", *both(ours), *both(obvious)])
        out.append(
            f"{field['size']} × {field['size']} pixels of {field['pixel_nm']:g} nm, "
            f"{field['clusters']} clusters, {field['found']} found ({field['found_by_blob_log']} "
            f"by blob_log; {field['met']} of ours by both); the same class maps: "
            f"{'yes' if field['same_class_maps'] else 'no'}. Medians of {ours['runs']}.\n\n"
            + table(["stage", "ours (s)", "processor (s)", "obvious (s)", "processor (s)"], rows)
            + f"\n\n**{field['ratio_wall']:.1f} times faster** by the clock, "
            f"{field['ratio_cpu']:.1f} times less of the processor."
        )
    return "\n\n".join(out)


def large(record: dict[str, Any]) -> str:
    rows = [
        [
            name, str(case["clusters"]), f"{case['wall_s']:.0f}", f"{case['cpu_s']:.0f}",
            f"{case['peak_mib']:.0f}", f"{case['peak_mib'] - case['start_mib']:.0f}",
            f"{case['longest_without_progress_s']:.1f}", "yes" if case["same_table"] else "no",
        ]
        for name, case in record["cases"].items()
    ]  # fmt: skip
    return (
        f"{record['size']} × {record['size']} pixels, {record['image_mib']:.0f} MiB, "
        f"{record['clusters']} clusters.\n\n"
        + table(
            [
                "the image",
                "found",
                "by the clock (s)",
                "processor (s)",
                "peak (MiB)",
                "above start (MiB)",
                "longest without progress (s)",
                "same table",
            ],
            rows,
        )
    )


def growth(record: dict[str, Any]) -> str:
    def rows(of: str, first: str) -> list[list[str]]:
        return [
            [str(run[first]), *(f"{run[f'{s}_s']:.2f}" for s in ("detect", "patches", "network")),
             f"{run['wall_s']:.2f}", f"{run['cpu_s']:.2f}"]
            for run in record[of]
        ]  # fmt: skip

    head = ["detect", "patches", "network", "all (s)", "processor (s)"]
    exponents = record["exponents"]
    images = [
        [str(r["images"]), str(r["clusters"]), f"{r['wall_s']:.1f}", f"{r['cpu_s']:.1f}"]
        for r in record["images"]
    ]
    return "\n\n".join(
        [
            f"Exponents: **{exponents['pixels']:.2f}** in pixels, "
            f"**{exponents['clusters']:.2f}** in clusters, "
            f"**{exponents['images']:.2f}** in images.",
            table(["side (px), 100 clusters", *head], rows("sides", "side")),
            table([f"clusters in {record['clusters'][0]['side']} × "
                   f"{record['clusters'][0]['side']}", *head], rows("clusters", "found")),
            table(["images of 512 × 512, with report", "clusters", "all (s)", "processor (s)"],
                  images),
            f"1,000 images, extrapolated: {record['seconds_for_1000_images_extrapolated']:.0f} s "
            "of the processor.",
        ]
    )  # fmt: skip


def startup(record: dict[str, Any]) -> str:
    rows = [[f"`{name}`", f"{s:.2f}"] for name, s in record["processes"].items()]
    umap = record["umap"]
    rows += [
        ["UMAP, first use in a process", f"{umap['first_s']:.1f}"],
        *[
            [f"UMAP, {what} {int(key.split('_')[1]):,}", f"{value:.1f}"]
            for what in ("transform", "fit")
            for key, value in umap.items()
            if re.fullmatch(rf"{what}_\d+_s", key)
        ],
    ]
    if "window" in record:
        window = record["window"]
        rows += [
            ["napari's window", f"{window['window_s']:.1f}"],
            ["first result in it, from the click", f"{window['result_s']:.1f}"],
            ["its places in the map, from the click", f"{window['map_s']:.1f}"],
        ]
    return table(["", "seconds"], rows)


def window(record: dict[str, Any]) -> str:
    return table(
        ["clusters", "action", "turn (ms)", "CPU (ms)", "painting (ms)", "done (ms)"],
        [
            [str(row["clusters"]), row["action"], *(f"{ms:.0f}" for ms in row["ms"])]
            for row in record["rows"]
        ],
    )


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "speed": speed,
    "large": large,
    "growth": growth,
    "startup": startup,
    "window": window,
}


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, write in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            print(f"no {path.name}: its tables stay as they are")
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        inside = (
            f"<!-- {name} -->\n{machine(record['machine'])}\n\n{write(record)}\n<!-- /{name} -->"
        )
        text, n = re.subn(
            rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, new=inside: new, text, flags=re.DOTALL
        )
        if n != 1:
            raise SystemExit(f"{PAGE.name} has {n} places for {name}")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
