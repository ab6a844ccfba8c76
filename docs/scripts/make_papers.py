"""Recompute the tables of ``explanation/papers.md``: what two papers report, and what we find.

    atomicity validate --simulate --out build/validation
    python docs/scripts/make_papers.py [--results build/validation]

`make papers` does both. Figures of clusters come from ``validation.json``, those of single atoms
from the tables of ``atoms_accuracy.md`` and ``dispersion_check.md``. Each verdict follows from its
figures by a rule of this script. A figure that is missing ends the script.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from page_sections import replace_section
from paper_atom_claims import ATOM_CLAIMS
from paper_claims import AGREES, DIFFERS, OPEN, PARTLY, Claim, Results
from paper_cluster_claims import CLUSTER_CLAIMS, OWN_QUESTIONS, POSSIBLE_CLAIMS

HERE = Path(__file__).resolve().parents[1]
PAGE = HERE / "explanation" / "papers.md"
RESULTS = HERE.parent / "build" / "validation"
MIN_EPOCHS = 20
"""Number of epochs below which a validation was a test, such as `--quick`."""


def table(claims: Sequence[Claim], given: Any) -> list[str]:
    """Return the rows of published claims."""
    lines = ["| claim, stated in | our figure (95 %) | agrees? | why; from |", "|---" * 4 + "|"]
    for claim in claims:
        found = claim.test(given)
        stated = f"{claim.text} {claim.source}"
        why = f"{found.why}; from {claim.command}" if claim.command else found.why
        lines.append(f"| {stated.strip()} | {found.figure} | {found.verdict} | {why} |")
    return lines


def own_table(claims: Sequence[Claim], of: Results) -> list[str]:
    """Return the rows of questions that the papers do not ask."""
    words = {AGREES: "better", PARTLY: "in part", DIFFERS: "not better", OPEN: OPEN}
    lines = ["| what is compared | our figure (95 %) | better? |", "|---" * 3 + "|"]
    for claim in claims:
        found = claim.test(of)
        lines.append(
            f"| {claim.text} ({claim.command}) | {found.figure} | {words[found.verdict]} |"
        )
    return lines


def result_in_words(of: Results) -> str:
    """Return the result in two sentences."""
    sentences = []
    for who, method, claims in (
        ("The shipped model, which uses the scale of the session,", "dual-shipped-combination",
         POSSIBLE_CLAIMS),
        ("A network trained as published on the simulated images", "dual-patch", CLUSTER_CLAIMS),
    ):  # fmt: skip
        verdicts = [claim.test(of).verdict for claim in claims]
        r2 = of.score(method, "mixtures", "ratio_r2")
        sentences.append(
            f"{who} reaches R² {r2.text()} for the ratios of mixtures; {verdicts.count(AGREES)} of "
            f"{len(verdicts)} claims agree, {verdicts.count(DIFFERS)} do not."
        )
    return " ".join(sentences)


def cluster_section(of: Results) -> list[str]:
    """Return the section on clusters."""
    groups = {name: group["images"] for name, group in of.get("groups").items()}
    images = ", ".join(f"{n} {name}" for name, n in groups.items())
    return [
        result_in_words(of),
        "",
        f"Made by `make papers` (`docs/scripts/make_papers.py`), version {of.get('version')}, "
        f"{of.record['finished'][:10]}. Images: {images}; {of.get('folds')} parts; "
        f"seeds {', '.join(map(str, of.get('seeds')))}.",
        "",
        "What one can do, with the shipped model:",
        "",
        *table(POSSIBLE_CLAIMS, of),
        "",
        "What is claimed of the published method, with networks trained as published:",
        "",
        *table(CLUSTER_CLAIMS, of),
        "",
        "What a scale of the session and the combination with a physical model add; the paper does "
        "not ask these questions:",
        "",
        *own_table(OWN_QUESTIONS, of),
    ]


def main() -> None:
    """Write the tables of the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of `validate`")
    of = Results(parser.parse_args().results)
    if (of.record["parameters"]["epochs"] or MIN_EPOCHS) < MIN_EPOCHS:
        raise SystemExit("these are results of a test such as --quick, which mean nothing")
    text = PAGE.read_text(encoding="utf-8")
    text = replace_section(text, "clusters", cluster_section(of))
    text = replace_section(text, "atoms", table(ATOM_CLAIMS, None))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
