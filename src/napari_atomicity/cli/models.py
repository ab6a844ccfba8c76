"""Commands ``atomicity models``, ``atomicity models add`` and ``atomicity info``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.text import printable
from .common import (
    AsJson,
    Overwrite,
    fail,
    guarded,
    print_json,
    print_result,
    say,
)

if TYPE_CHECKING:
    from ..core.model_card import Card

_MAX_TEXT = 1000
"""Longest text of a card that is printed."""


@guarded
def models(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the available models with their cards, or add one."""
    if ctx.invoked_subcommand is not None:
        return
    from ..atoms.finding.card import AtomCard
    from ..core.model_card import ModelCard
    from ..models.files import available_models

    cards, of_atoms = available_models(ModelCard), available_models(AtomCard)
    if as_json:
        everything: list[Card] = [*cards.values(), *of_atoms.values()]
        print_json([{"model_id": card.model_id, **card.to_dict()} for card in everything])
        return
    for name, card in cards.items():
        _print_name(name, card)
        _print_text("classes", ", ".join(card.classes))
        _print_text("channels", ", ".join(card.patches.channels))
        _print_texts(card)
    for name, one in of_atoms.items():
        _print_name(name, one)
        _print_text("finds", "single atoms")
        _print_texts(one)
    if not cards and not of_atoms:
        fail("no model is available")


@guarded
def add(
    path: Annotated[
        Path,
        typer.Argument(
            help="Weights (.safetensors) and card (.json) in one folder, or the folder.",
            show_default=False,
        ),
    ],
    overwrite: Overwrite = False,
) -> None:
    """Copy models that others have made into your folder of models."""
    from ..models.files import user_folder
    from ..pipeline.installed_models import add_models

    if not path.exists():
        raise typer.BadParameter(f"{path} does not exist", param_hint="PATH")
    for card in add_models(path, overwrite):
        _print_name(card.name, card)
        _print_texts(card)
        if not card.license:
            _print_text("license", "not stated: contact the authors before you publish results")
    say(f"Copied to {user_folder()}")


def _print_texts(card: Card) -> None:
    for title in ("description", "intended_use", "limits", "license", "doi"):
        text = getattr(card, title)
        if text:
            _print_text(title.replace("_", " "), text)


def _print_name(name: str, card: Card) -> None:
    print_result(printable(f"{name}  ({card.model_id})"))


def _print_text(title: str, text: str) -> None:
    """Print a line of a card, which others may have written."""
    shown = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}… (all of it: --json)"
    print_result(f"  {title:<10} {printable(shown, ' ')}")


@guarded
def info(as_json: AsJson = False) -> None:
    """Show versions, devices, models and paths for a bug report."""
    from ..core.devices import devices
    from ..core.model_card import ModelCard
    from ..io.provenance import environment
    from ..models.files import available_models

    known = {
        **environment(),
        "devices": devices(),
        "models": [card.model_id for card in available_models(ModelCard).values()],
        "package_path": str(Path(__file__).parents[1]),
        "python_path": sys.executable,
    }
    if as_json:
        print_json(known)
        return
    for name, value in known.items():
        if isinstance(value, dict):
            print_result(f"{name}:")
            for key, one in value.items():
                print_result(f"  {key:<16} {'not installed' if one is None else one}")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            print_result(f"{name + ':':<18} {text}")
