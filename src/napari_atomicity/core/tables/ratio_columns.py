"""Columns of a table of class ratios (`statistics.ratios.ratios.class_ratios`)."""

from __future__ import annotations

from .columns import TEXT, Column

SCHEMA = (
    Column("scope", TEXT, "", 'name of the image, or "all"'),
    Column("class", TEXT, "", "class of the model, or a label that is no class"),
    Column("count", "int64", "", "number of clusters, or of tracks of a movie, with this label"),
    Column("fraction", "float64", "", "fraction of the class; missing if it is no class"),
    Column("fraction_low", "float64", "", "lower end of the interval of the fraction"),
    Column("fraction_high", "float64", "", "upper end of the interval of the fraction"),
    Column("method", TEXT, "", "method by which the fractions were estimated"),
    Column(
        "note",
        TEXT,
        "",
        "what limits the use of the row; empty for most",
    ),
    Column(
        "time_fraction",
        "float64",
        "",
        "fraction of the time of all counted tracks that they have this label; missing without "
        "tracks",
    ),
)
"""Columns of a table of ratios."""
