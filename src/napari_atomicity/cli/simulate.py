"""Command ``atomicity simulate``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import ReadError
from ..simulation.metals import MAX_NUMBER, MAX_SIZE_PX
from .common import (
    AsJson,
    ConsoleProgress,
    Device,
    Overwrite,
    Seed,
    guarded,
    print_json,
    refuse_existing,
    refuse_given,
    require_files,
    say,
    split_names,
)
from .options import SHARED, apply_settings_file

if TYPE_CHECKING:
    from ..simulation.recipes import Recipe


Structures = Annotated[
    int, typer.Option(min=1, max=MAX_NUMBER, help="Number of structures per class.")
]
Aggregates = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Fraction of clusters that overlap with a second cluster."),
]
Contamination = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Fraction of the support covered by hydrocarbons."),
]


def _has_options(path: Path) -> bool:
    """Whether a settings file contains values of options; otherwise, of simulated images."""
    return path.suffix == ".toml"


def _apply_settings_file(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None and _has_options(path):
        apply_settings_file(context, path)
    return path


@guarded
def simulate(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for images, truth.csv and settings.json.")],
    settings: Annotated[
        Path | None,
        typer.Option(
            help="A settings.json to simulate again, exactly reproduced on the CPU; or a TOML file "
            "with values of options. Options on the command line win.",
            callback=_apply_settings_file,
            is_eager=True,
        ),
    ] = None,
    fields: Annotated[int, typer.Option(min=1, max=MAX_NUMBER, help="Number of images.")] = 4,
    classes: Annotated[
        str, typer.Option(help="Classes separated by commas: metal and atoms, as Pt55,Au24Pd1.")
    ] = "Pt19,Pt30,Pt41,Pt55,Pt70",
    seed: Seed = 0,
    isomers: Structures = 20,
    size_px: Annotated[
        int | None, typer.Option(min=64, max=MAX_SIZE_PX, help="Image size in pixels.")
    ] = None,
    pixel_size_nm: Annotated[
        float | None,
        typer.Option(min=1e-3, max=1, help="Pixel size in nm. Default: random for each image."),
    ] = None,
    aggregates: Aggregates = None,
    contamination: Contamination = None,
    demanding: Annotated[
        bool, typer.Option(help="Include contamination, afterglow and aggregates.")
    ] = False,
    device: Annotated[Device, typer.Option(help="Device of the image simulation.")] = "cpu",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate images of clusters on carbon, with their ground truth."""
    from ..core.devices import choose_device
    from ..simulation.recipes import read_recipe, write_recipe

    if settings is not None and not _has_options(settings):
        require_files([settings])
        recipe = read_recipe(settings)
        others = context.params.keys() - {"out", "device", "overwrite", "as_json"} - SHARED
        refuse_given(context, others, "{option} is defined by the settings file; use one of them")
    else:
        overrides: dict[str, Any] = {
            "shape_px": size_px and (size_px, size_px),
            "pixel_size_nm": pixel_size_nm,
            "aggregates": aggregates,
            "contamination": contamination,
        }
        recipe = _draw(
            split_names(classes, "--classes"), fields, seed, isomers, demanding, overrides
        )
    _replace_earlier(out, recipe, overwrite)
    with ConsoleProgress() as console:
        where = str(choose_device(device))
        truth = write_recipe(out, recipe, progress=console.progress, device=where)
    n = len(recipe.fields)
    if as_json:
        print_json(
            {"truth": truth, "images": n, "classes": list(recipe.classes), "seed": recipe.seed}
        )
    say(f"{n} images with their truth in {out}")


def _replace_earlier(out: Path, recipe: Recipe, overwrite: bool) -> None:
    """Exit with status 2 if there is another simulation, or delete the images that it had."""
    from ..simulation.recipes import read_recipe

    earlier = None
    with contextlib.suppress(ReadError):  # damaged, or not there
        earlier = read_recipe(out / "settings.json")
    if earlier == recipe:
        return
    refuse_existing(out / "settings.json", overwrite, "simulation")
    for name in () if earlier is None else earlier.fields.keys() - recipe.fields.keys():
        (out / name).unlink(missing_ok=True)


def _draw(
    classes: list[str],
    fields: int,
    seed: int,
    isomers: int,
    demanding: bool,
    overrides: dict[str, Any],
) -> Recipe:
    """Draw random settings; overrides that are None are ignored."""
    from ..simulation.field_settings import demanding_settings, random_settings
    from ..simulation.recipes import draw_recipe

    given = {name: value for name, value in overrides.items() if value is not None}
    draw = demanding_settings if demanding else random_settings
    return draw_recipe(fields, classes, seed, isomers, given, draw)
