"""The folder of a run: its files, what failed, and ``run.json``, which is written last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.errors import FAILED, AtomicityError, attempt, format_failed
from .files import write_json
from .inputs import make_folder
from .provenance import Outcome, read_run_record, record_status, run_record
from .ro_crate import METADATA, write_crate

RECORD = "run.json"
REPORT = "report.html"


class ResultFolder:
    """The files that one run writes into a folder.

    One rule holds for files of an earlier run: if its ``run.json`` is of the same kind and lists a
    file that this run does not write, the file is removed, because it would seem to be of this run.
    Every other file belongs to somebody else and stays.

    ``run.json`` is removed first and written last, so that the results are complete where it
    exists. Raises `AtomicityError` if the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        make_folder(folder)
        self.folder = folder
        self.kind = kind  # the command that makes such results: "analyse", "atoms", ...
        self.files: list[Path] = []
        self.failed: dict[str, str] = {}  # statistic or figure → why it could not be computed
        earlier = read_run_record(folder)
        same_kind = earlier is not None and earlier.kind == kind
        self._earlier = earlier.outputs if earlier is not None and same_kind else ()
        for name in (RECORD, METADATA):
            (folder / name).unlink(missing_ok=True)

    def __truediv__(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.folder / name

    def add(self, *paths: Path) -> None:
        """Count files that were written as files of this run."""
        self.files += paths

    def finish(
        self,
        outcomes: Sequence[Outcome],
        write_report: Callable[[dict[str, Any]], Any] | None = None,
        **circumstances: Any,  # keywords of `io.provenance.run_record`
    ) -> dict[str, Any]:
        """Write the report, remove stale files, describe all files and write the record; return it.

        ``write_report(record)`` writes ``report.html``. If it fails, the record says so.
        """
        page = [] if write_report is None else [self / REPORT]
        self.add(*page, self / METADATA, self / RECORD)
        record = run_record(
            outcomes, kind=self.kind, outputs=self._names(), failed=self.failed, **circumstances
        )
        if write_report is not None:
            attempt(self.failed, "report", lambda: write_report(record))
        if "report" in self.failed:
            self.files.remove(self / REPORT)
            (self / REPORT).unlink(missing_ok=True)  # that of an earlier run, of any kind
            record["outputs"] = self._names()
            record["status"] = record_status(
                outcomes, record["status"] == "interrupted", self.failed
            )
        self._remove_stale()
        write_crate(self.folder, record)
        write_json(self / RECORD, record)
        return record

    def raise_failed(self) -> None:
        """Raise `AtomicityError` if a part of the results failed; the rest is in the folder."""
        if self.failed:
            texts = " ".join(format_failed({FAILED: self.failed}))
            raise AtomicityError(texts.rstrip("."), advice="All else is in the folder")

    def _names(self) -> list[str]:
        return [path.relative_to(self.folder).as_posix() for path in self.files]

    def _remove_stale(self) -> None:
        for path in map(self.folder.joinpath, self._earlier):
            # The record may come from anywhere: no name may lead out of the folder.
            inside = path.is_relative_to(self.folder) and ".." not in path.parts
            with suppress(OSError, ValueError):  # no valid name, or kept by another program
                if inside and path not in self.files and path.is_file():
                    path.unlink()
