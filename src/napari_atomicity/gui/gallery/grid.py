"""Where the tiles of the gallery lie: sections with a header each, found by arithmetic.

No tile has an object of its own, so ten thousand cost what ten do. All lengths are in logical
pixels of the content, whose origin is the top left of the whole, scrolled away or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class GalleryGrid:
    """Sections below each other, each a header and rows of cells."""

    counts: np.ndarray  # (S,) how many cells each section has
    width: int
    cell: tuple[int, int]  # least width, and height, of a cell; cells are spread over the width
    header: int  # height of a header; 0 for none

    @cached_property
    def columns(self) -> int:
        return max(1, self.width // self.cell[0])

    @cached_property
    def step(self) -> float:
        """From one cell to the next along a row."""
        return max(self.width / self.columns, 1.0)

    @cached_property
    def starts(self) -> np.ndarray:
        """(S + 1,) position of the first cell of each section, and the number of all."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    @cached_property
    def tops(self) -> np.ndarray:
        """(S + 1,) top of each header, and the height of the whole; empty sections have none."""
        rows = -(-np.asarray(self.counts, np.int64) // self.columns)
        heights = np.where(rows > 0, self.header + rows * self.cell[1], 0)
        return np.concatenate([[0], np.cumsum(heights)]).astype(np.int64)

    @property
    def height(self) -> int:
        return int(self.tops[-1])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def sections_of(self, positions: np.ndarray) -> np.ndarray:
        """Return the section of each cell."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def corners(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y of the top left corners of cells."""
        positions = np.asarray(positions, np.int64)
        section = self.sections_of(positions)
        row, column = np.divmod(positions - self.starts[section], self.columns)
        x = np.floor(column * self.step).astype(np.int64)
        return x, self.tops[section] + self.header + row * self.cell[1]

    def corner(self, position: int) -> tuple[int, int]:
        x, y = self.corners(np.array([position]))
        return int(x[0]), int(y[0])

    def visible(self, top: float, bottom: float) -> tuple[int, int]:
        """First and one past the last cell of the rows that reach into a strip."""
        return self._row_start(top, False), self._row_start(bottom, True)

    def _row_start(self, y: float, past: bool) -> int:
        """Return the first cell of the row at a height, or of the next row below it."""
        section = self.section_at(y)
        if section is None:
            return 0 if y < 0 else len(self)
        inside = y - self.tops[section] - self.header
        row = int(-(-inside // self.cell[1])) if past else int(inside // self.cell[1])
        cells = min(max(row, 0) * self.columns, int(self.counts[section]))
        return int(self.starts[section]) + cells

    def section_at(self, y: float) -> int | None:
        """Return the section at a height; None above and below all sections."""
        if not 0 <= y < self.height:
            return None
        return int(np.searchsorted(self.tops, y, side="right")) - 1

    def header_top(self, section: int, top: float) -> int:
        """Return where a header is shown, from the top of the visible strip.

        The header of the first visible section stays on top until the next one pushes it away.
        """
        y = int(self.tops[section] - top)
        if section == self.section_at(top):
            y = min(max(y, 0), int(self.tops[section + 1] - top) - self.header)
        return y

    def header_at(self, y: float, top: float) -> int | None:
        """Return the section whose header is shown at a height."""
        for section in (self.section_at(y), self.section_at(top)):
            if section is not None and 0 <= y - top - self.header_top(section, top) < self.header:
                return section
        return None

    def cell_at(self, x: float, y: float) -> int | None:
        """Return the cell at a position."""
        section = self.section_at(y)
        if section is None or not 0 <= x < self.width:
            return None
        row = int((y - self.tops[section] - self.header) // self.cell[1])
        cell = row * self.columns + min(int(x // self.step), self.columns - 1)
        if row < 0 or cell >= self.counts[section]:
            return None
        return int(self.starts[section]) + cell

    def within(self, left: float, top: float, right: float, bottom: float) -> np.ndarray:
        """Return the cells that intersect a rectangle."""
        positions = np.arange(*self.visible(top, bottom))
        x, _ = self.corners(positions)
        return positions[(x < right) & (x + self.step > left)]

    def position_below(self, position: int, rows: int) -> int:
        """Return the cell some rows below (above, if negative), if possible in the same column."""
        section = int(self.sections_of(np.array([position]))[0])
        column = (position - int(self.starts[section])) % self.columns
        down = 1 if rows > 0 else -1
        for _ in range(abs(rows)):
            inside = (position - int(self.starts[section])) // self.columns + down
            n_rows = -(-int(self.counts[section]) // self.columns)
            if not 0 <= inside < n_rows:
                following = section + down
                while 0 <= following < len(self.counts) and not self.counts[following]:
                    following += down
                if not 0 <= following < len(self.counts):
                    return position
                section = following
                n_rows = -(-int(self.counts[section]) // self.columns)
                inside = 0 if down > 0 else n_rows - 1
            cell = min(inside * self.columns + column, int(self.counts[section]) - 1)
            position = int(self.starts[section]) + cell
        return position
