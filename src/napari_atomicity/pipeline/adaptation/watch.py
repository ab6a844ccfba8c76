"""Watched folder whose model is adapted when the conditions of the session change.

The images that one model has labelled are one set of results. After an accepted adaptation, the
images since the change and all later ones are labelled by the adapted model, with results of their
own: ratios of one table come from one model.

::

    OUT/                          results of the first model
    OUT/adapted-1.safetensors     adapted model, and its card adapted-1.json
    OUT/adapted-1/                results of the adapted model
    OUT/adapted.json              what a restart needs
    OUT/models.csv                the model of each image
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from ...core.errors import ModelError
from ...core.from_dict import dataclass_from_json
from ...core.progress import Stop
from ...core.text import pluralise
from ...io.files import read_document, write_json
from ...io.provenance import read_run_record
from ...io.tables import write_table
from ...models.analysis import Analysis
from ...models.files import find_model, read_model, save_model
from ..live.control_chart import MAX_IMAGES
from ..live.live import LiveRun, LiveUpdate
from ..live.watch import Watch
from ..run_request import RunRequest
from ..runs.part_store import PartStore
from . import text as adaptation_text
from .fine_tuning import refuse_unadaptable
from .runs import adapt_images

ADAPTED = "adapted.json"
"""File with the adapted models, and the files that earlier models have labelled."""
MODELS = "models.csv"
"""Table with the model of each image."""
MIN_IMAGES = 3
"""Least number of images since the change for an adaptation."""
MIN_CLUSTERS = 150
"""Least number of their clusters, unless `changed_images.MAX_IMAGES` images have fewer: a model
that was adapted to 97 clusters of three images labelled the next ones worse than before."""


@dataclass(frozen=True)
class Stage:
    """An adapted model, and the files that were analysed before it."""

    name: str
    # path → size and time in ns of the files that earlier models have labelled
    files: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class _Stages:
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, eq=False)
class AdaptedRun(LiveRun):
    """Result of a watched folder with all its models."""

    # of each model: its identifier, the folder of its results, and its number of images
    stages: tuple[dict[str, Any], ...] = ()
    # summary of each adaptation of this session, also of those that were not accepted
    adaptations: tuple[dict[str, Any], ...] = ()

    def summary(self) -> dict[str, Any]:
        """Summarise the run as plain values for JSON."""
        more = {"stages": list(self.stages), "adaptations": list(self.adaptations)}
        return {**super().summary(), **more}


@dataclass(eq=False)
class AdaptingWatch:
    """Watches a folder; see `Watch` for what it does with one model.

    Raises `ModelError` if the model cannot be adapted.
    """

    folder: str | PathLike[str]
    out_dir: str | PathLike[str]
    request: RunRequest
    notice: Callable[[str], None]  # called with messages: every adaptation is announced
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of `Watch`
    _stages: list[Stage] = field(default_factory=list, init=False)
    _adaptations: list[dict[str, Any]] = field(default_factory=list, init=False)
    _n_new: int = field(default=0, init=False)
    _wait_for: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        refuse_unadaptable(*read_model(find_model(self.request.model)))
        self._out = Path(self.out_dir)
        try:
            data = read_document(self._out / ADAPTED)
        except OSError:
            return
        self._stages = list(dataclass_from_json(_Stages, data).stages)

    def run(
        self,
        on_result: Callable[[LiveUpdate], None] | None = None,
        stop: Stop | None = None,
        until_idle_s: float | None = None,
    ) -> AdaptedRun:
        """Watch the folder until it is stopped; the arguments are those of `Watch.run`."""
        runs: list[LiveRun] = []
        while True:
            watch = self._next_watch(stop)
            outer = PartStore(self._out).locked() if self._stages else nullcontext()
            with outer:
                runs.append(watch.run(on_result, stop, until_idle_s))
            if watch.handed_over:
                self._begin_stage(watch)
            self._write_models()
            if not watch.handed_over or (stop is not None and stop()):
                return self._joined(runs)

    # ---- stages
    @property
    def _folder_of_results(self) -> Path:
        return self._out / self._stages[-1].name if self._stages else self._out

    @property
    def _model(self) -> str:
        if not self._stages:
            return self.request.model
        return str(self._out / f"{self._stages[-1].name}.safetensors")

    def _next_watch(self, stop: Stop | None) -> Watch:
        known = self._stages[-1].files if self._stages else {}
        self._n_new = self._wait_for = 0
        if self._stages:
            self.notice(f"using the model {self._model}")
        return Watch(
            self.folder,
            self._folder_of_results,
            replace(self.request, model=self._model),
            notice=self.notice,
            known={Path(path): seen for path, seen in known.items()},
            leave_out=self._out,
            on_change=lambda analyses: self._adapt(analyses, stop),
            **self.options,
        )

    def _begin_stage(self, watch: Watch) -> None:
        """Note the files of the earlier models; a restart then continues with the adapted one."""
        earlier = self._stages[-1].files if self._stages else {}
        files = {**earlier, **{str(k): v for k, v in watch.analysed_files().items()}}
        self._stages.append(Stage(self._next_name, files))
        stages = [{"name": one.name, "files": one.files} for one in self._stages]
        write_json(self._out / ADAPTED, {"stages": stages})

    @property
    def _next_name(self) -> str:
        return f"adapted-{len(self._stages) + 1}"

    def _adapt(self, analyses: Sequence[Analysis], stop: Stop | None) -> bool:
        """Adapt the model to the images since the change; return whether it was accepted."""
        self._n_new += 1
        n_clusters = sum(len(analysis.table) for analysis in analyses)
        few = len(analyses) < MIN_IMAGES
        few |= n_clusters < MIN_CLUSTERS and len(analyses) < MAX_IMAGES
        if few or self._n_new < self._wait_for:
            return False
        images = pluralise(len(analyses), "image")
        self.notice(f"ADAPTATION of {self._model} to the {images} since the change")
        try:
            found = adapt_images(
                analyses, self._model, self._next_name, self.request.device, stop=stop
            )
        except ModelError as error:
            self.notice(f"  {error}")
            return False
        for text in (
            adaptation_text.format_verdict(found),
            adaptation_text.format_learnt(found),
            adaptation_text.format_missing(found),
        ):
            if text:
                self.notice(f"  {text}")
        path = self._out / f"{self._next_name}.safetensors"
        if found.accepted:
            save_model(path, found.card, found.tensors)
            self.notice(
                f"  model {found.card.model_id} in {path}: it labels the {images} again, and all "
                f"later ones; results in {path.with_suffix('')}"
            )
        else:
            self._n_new, self._wait_for = 0, len(analyses)
            self.notice(f"  next attempt after {images} more")
        names = [analysis.micrograph.name for analysis in analyses]
        model_id = found.card.model_id if found.accepted else None
        self._adaptations.append({**found.summary(), "model_id": model_id, "images": names})
        return found.accepted

    # ---- results
    def _results(self) -> list[tuple[Path, str, list[str]]]:
        """Return folder, model and images of all results."""
        found = []
        for folder in (self._out, *(self._out / stage.name for stage in self._stages)):
            record = read_run_record(folder)
            if record is not None and record.model is not None:
                done = [image.image for image in record.images if image.status == "done"]
                found.append((folder, str(record.model.get("model_id", "")), done))
        return found

    def _write_models(self) -> None:
        rows = [
            (image, model, folder.relative_to(self._out).as_posix())
            for folder, model, images in self._results()
            for image in images
        ]
        table = pd.DataFrame(rows, columns=["image", "model_id", "results"])
        write_table(table, self._out / MODELS)

    def _joined(self, runs: Sequence[LiveRun]) -> AdaptedRun:
        """Join the runs of this session; a file that failed may have been read later."""
        outcomes = {outcome.image: outcome for run in runs for outcome in run.outcomes}
        failed = {name: text for run in runs for name, text in run.failed_statistics.items()}
        last = runs[-1]
        fields = {
            **vars(last),
            "outcomes": list(outcomes.values()),
            "failed_statistics": failed,
            "analysed": sum(run.analysed for run in runs),
        }
        return AdaptedRun(
            **fields,
            stages=tuple(
                {"model_id": model, "results": str(folder), "images": len(images)}
                for folder, model, images in self._results()
            ),
            adaptations=tuple(self._adaptations),
        )
