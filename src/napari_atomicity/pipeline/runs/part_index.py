"""Images of a run: their parts, their failures, and what is known of their sessions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ...core.errors import FAILED, ReadError, add_failed, format_failed
from ...core.model_card import ModelCard
from ...io.images import sha256_of
from ...io.inputs import Input
from ...io.outline_files import outlines_file
from ...io.provenance import Outcome
from ...reporting.image_warnings import session_warnings
from ...reporting.plots.session import SessionSummary
from ..acquisition_sessions import SessionRules
from ..run_request import RunRequest
from .image_scale import ImageScale
from .part_store import Failure, PartStore
from .parts import Part, key_of, stem_of


@dataclass(eq=False)
class PartIndex:
    """Index of the images of a run: their parts in a store, and their failures."""

    store: PartStore
    request: RunRequest
    card: ModelCard
    model: str  # hash of the model, from `parts.model_hash`
    sessions: SessionRules  # how the images are grouped into sessions
    stems: dict[str, str] = field(default_factory=dict)
    # name of an image → its failure. Images in neither were not reached
    failed: dict[str, Failure] = field(default_factory=dict)
    # name of an image → description of the scale of its session, for images labelled jointly
    joint: dict[str, dict[str, Any]] = field(default_factory=dict)
    summaries: list[SessionSummary] = field(default_factory=list)  # sessions that the report draws
    # name of an image → why it could not be labelled with its session
    problems: dict[str, str] = field(default_factory=dict)
    # name of an image → error of the scale of its session
    failed_sessions: dict[str, str] = field(default_factory=dict)

    def key(self, sha256: str, item: Input) -> str:
        """Return the key of the result of a file with this content, and of its outlines."""
        for name in ("outlines", "rois"):
            if source := getattr(self.request, name):
                file = outlines_file(source, item.name, item.path)
                sha256 += f" {name} {sha256_of(file)}"
        return key_of(sha256, self.model, self.request)

    def adopt(self, item: Input) -> str | None:
        """Use the part of an image that was analysed before, possibly under another name."""
        if not len(self.store):
            return None
        try:
            key = self.key(sha256_of(item.path), item)
        except (OSError, ReadError):  # the reader has a better message
            return None
        stem = self.store.adopt(key, item)
        if stem is None or not self.can_label(stem):
            return None
        if item.pixel_size_nm not in (None, self.store.outcome(stem).pixel_size_nm):
            return None
        self.register(item, stem)
        return stem

    def can_label(self, stem: str) -> bool:
        """Return whether a part has what its session needs: a scale that can be read."""
        no_scale = self.card.scale is None or self.request.session == "none"
        return no_scale or self._read_scale(stem) is not None

    def _read_scale(self, stem: str) -> ImageScale | None:
        data = self.store.scale(stem)
        return None if data is None else ImageScale.from_bytes(data, self.card)

    def image_scale(self, name: str) -> ImageScale | None:
        """Read the scale of an image by itself; None if it was not stored."""
        return self._read_scale(self.stems[name])

    def add(self, item: Input, part: Part) -> str:
        """Store the part of an analysed image and return its name."""
        assert part.outcome.sha256 is not None
        stem = stem_of(self.key(part.outcome.sha256, item), item.name)
        self.store.write(stem, part)
        self.register(item, stem)
        return stem

    def register(self, item: Input, stem: str) -> None:
        """Register the part of an image."""
        self.stems[item.name] = stem

    def fail(self, outcome: Outcome) -> None:
        """Register a failed image."""
        self.failed[outcome.image] = Failure.of(outcome)

    def outcome(self, item: Input) -> Outcome:
        """Return the outcome of an image."""
        if item.name in self.failed:
            return self.failed[item.name].outcome
        if item.name in self.stems:
            return self._describe_session(self.store.outcome(self.stems[item.name]))
        return item.outcome("not reached", "stopped before")

    def _describe_session(self, outcome: Outcome) -> Outcome:
        """Return the outcome of an image with what was found in its session."""
        if outcome.image in self.failed_sessions:
            failed = {"scale of the session": self.failed_sessions[outcome.image]}
            warnings = [*outcome.warnings, *format_failed({FAILED: failed})]
            parameters = add_failed(outcome.parameters, failed)
            return replace(outcome, parameters=parameters, warnings=tuple(warnings))
        if (session := self.joint.get(outcome.image)) is None:
            return outcome
        warnings = [*outcome.warnings, *session_warnings(session)]
        if outcome.image in self.problems:
            reason = self.problems[outcome.image]
            warnings.append(f"The labels are those of the image by itself: {reason}.")
        parameters = {**outcome.parameters, "session": session}
        return replace(outcome, parameters=parameters, warnings=tuple(warnings))
