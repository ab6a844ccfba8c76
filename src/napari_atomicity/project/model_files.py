"""Models that are stored in a project, so that they come along with it."""

from __future__ import annotations

from ..core.errors import ReadError
from ..io.provenance import now
from .connection import ProjectConnection


class ModelFiles:
    """The model files of a project file."""

    def __init__(self, file: ProjectConnection) -> None:
        self._file = file

    def add(self, name: str, weights: bytes, card: str) -> None:
        """Store a model."""
        with self._file.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO model_files (name, time, content, card) "
                "VALUES (?, ?, ?, ?)",
                (name, now(), weights, card),
            )

    def names(self) -> dict[str, str]:
        """Return the name of each stored model, and when it was stored."""
        with self._file.reading() as db:
            rows = db.execute("SELECT name, time FROM model_files ORDER BY time").fetchall()
        return {name: str(time) for name, time in rows if isinstance(name, str)}

    def size_bytes(self, name: str) -> int:
        """Return the size of a stored model with its card, without reading it."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT length(content) + length(card) FROM model_files WHERE name = ?", (name,)
            ).fetchone()
        return int(found[0]) if found else 0

    def read(self, name: str) -> tuple[bytes, str]:
        """Return weights and card of a stored model.

        Raises `ReadError` if the project has no model of that name, or it is damaged.
        """
        with self._file.reading() as db:
            row = db.execute(
                "SELECT content, card FROM model_files WHERE name = ?", (name,)
            ).fetchone()
        if row is None:
            raise ReadError(f"there is no model {name!r} in the project", self._file.path)
        weights, card = row
        if not (isinstance(weights, bytes) and isinstance(card, str)):
            raise ReadError(f"the model {name!r} in the project is damaged", self._file.path)
        return weights, card
