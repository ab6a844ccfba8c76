"""Sections that wait in a temporary file are those that were drawn."""

from __future__ import annotations

from markupsafe import Markup

from napari_atomicity.reporting.image_section import Section, SectionFile


def test_stored_sections_are_the_same_in_any_order():
    drawn = [
        Section("a.tif", Markup("<p>19 → 30 µ</p>")),
        Section("b\udcff.tif", Markup("<p>\udcff</p>"), "the file is missing"),
        Section("c.tif", Markup("")),
    ]
    file = SectionFile()
    stored = [file.store(section) for section in drawn]
    for before, after in [*zip(drawn, stored, strict=True)][::-1]:
        assert (after.image, after.html, after.problem) == (
            before.image, before.html, before.problem,
        )  # fmt: skip
        assert isinstance(after.html, Markup) and isinstance(after, Section)
