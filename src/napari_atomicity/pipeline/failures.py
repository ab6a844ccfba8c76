"""Images that could not be analysed: rows of ``failures.csv``."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..io.provenance import Outcome, now

FAILURES = "failures.csv"
FAILURE_COLUMNS = ("image", "path", "error", "sha256", "size_bytes", "modified", "seen")


@dataclass(frozen=True)
class Failure:
    """An image that could not be analysed, and its file as it was then."""

    outcome: Outcome  # with the error
    # size_bytes, modified: of the file, as ISO 8601 in UTC; None if it is not there
    size_bytes: int | None = None
    modified: str | None = None
    seen: str = ""

    @classmethod
    def of(cls, outcome: Outcome) -> Failure:
        """With size and time of the file as they are now."""
        size, modified = size_and_time(outcome.path)
        return cls(outcome, size, modified, now())

    @classmethod
    def from_row(cls, row: Mapping[Hashable, Any]) -> Failure:
        """Invert `row`."""
        image, path, error = (str(row[name] or "") for name in ("image", "path", "error"))
        outcome = Outcome(image, path, "failed", error, sha256=row["sha256"])
        size = row["size_bytes"]
        return cls(outcome, None if size is None else int(size), row["modified"], str(row["seen"]))

    def row(self) -> dict[str, Any]:
        """Of ``failures.csv``."""
        said = self.outcome
        return {
            "image": said.image,
            "path": said.path,
            "error": said.error,
            "sha256": said.sha256,
            "size_bytes": self.size_bytes,
            "modified": self.modified,
            "seen": self.seen,
        }

    def is_as_it_was(self) -> bool:
        """Whether the file has not changed since."""
        return (self.size_bytes, self.modified) == size_and_time(self.outcome.path)


def size_and_time(path: str) -> tuple[int | None, str | None]:
    """Bytes, and the time of the last change as ISO 8601 in UTC; None if it is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116  (a path that is no valid text is no error)
    except (OSError, ValueError):
        return None, None
    changed = datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, UTC)
    return status.st_size, changed.isoformat(timespec="microseconds")
