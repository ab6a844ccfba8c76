"""Analyses of several images, and those of one acquisition session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from ..core.acquisition_session import Composition, Recording, SampleEntry
from ..core.errors import TableError
from ..core.tables.cluster_table import ALL, concatenate
from ..io.inputs import Input
from ..io.provenance import Outcome, assign_samples, now
from ..models.analysis import Analysis, limits_of
from ..pipeline.runs.in_memory import AnalysedImages
from ..pipeline.runs.run_files import RunInfo
from ..statistics.ratios.ratios import class_ratios
from .arguments import checks_arguments
from .image_analysis import ImageAnalysis, open_in_viewer
from .plots import AnalysisPlots
from .saving import results_of, save_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.progress import Progress
    from ..statistics.samples.comparison import SampleComparison

_MAX_PLOTS = 12
"""Number of images up to which `Analyses.plot` draws all of them."""


@dataclass(frozen=True, eq=False, repr=False)
class Analyses:
    """The analyses of several images, in order: iterable, with their tables joined.

    Images that were recorded alike were labelled jointly, see `sessions`. It never changes:
    `correct` returns another one. All analyses are in memory; for thousands of images, use
    `analyse_batch`.

    Parameters
    ----------
    results : AnalysedImages
        Analyses, outcomes and what the sessions have in common.
    inputs : sequence of Input
        All images, including those that failed.
    device : str
        Device of the network.
    started : str
        Time at which the analysis began.

    Examples
    --------
    >>> analyses = analyse("2026-11-20", known=["ref_*.tif=Pt55"])
    >>> analyses.ratios(method="em")
    >>> for analysis in analyses:
    ...     print(analysis)
    >>> analyses["field_01.tif"].plot()
    """

    results: AnalysedImages
    inputs: Sequence[Input] = ()
    device: str = "cpu"
    started: str = field(default_factory=now)

    @classmethod
    def of(cls, analyses: Iterable[Analysis]) -> Self:
        """Join analyses of one model; their labels stay.

        Parameters
        ----------
        analyses : iterable of Analysis
            Classified images. Names that occur twice get a number.

        Returns
        -------
        Analyses

        Raises
        ------
        ModelError
            If there are no analyses, or not all of them are classified by one model.
        """
        results, inputs = results_of(analyses)
        return cls(results, inputs, results.request.device)

    # ---- as a collection
    def __len__(self) -> int:
        return len(self.results.analyses)

    def __iter__(self) -> Iterator[ImageAnalysis]:
        return map(ImageAnalysis.of, self.results.analyses.values())

    def __getitem__(self, image: str | int) -> ImageAnalysis:
        """Return the analysis of an image by its name or number."""
        if isinstance(image, str):
            return ImageAnalysis.of(self.results.analyses[image])
        return list(self)[image]

    def __repr__(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        names = ", ".join(self.images[:3]) + (", …" if len(self) > 3 else "")
        return (
            f"<{type(self).__name__} of {len(self)} images ({names}){failed}: "
            f"{len(self.table)} clusters>"
        )

    def _repr_html_(self) -> str:
        """Return images and ratios for notebooks."""
        from .plots import html_of_images

        return html_of_images(self.outcomes, self.ratios(scope=ALL))

    @property
    def images(self) -> list[str]:
        """Names of the analysed images."""
        return list(self.results.analyses)

    @property
    def outcomes(self) -> list[Outcome]:
        """Outcome of each image: what was done, what failed, and warnings."""
        return list(self.results.outcomes)

    @property
    def failed(self) -> dict[str, str]:
        """Images that could not be analysed, and why."""
        return {o.image: o.error or "" for o in self.results.outcomes if o.status == "failed"}

    @property
    def sessions(self) -> dict[str, Session]:
        """Acquisition sessions by name: the images that were recorded alike."""
        of_session: dict[str, list[str]] = {}
        for outcome in self.results.outcomes:
            if outcome.image in self.results.analyses:
                of_session.setdefault(outcome.session, []).append(outcome.image)
        return {name: self._session(name, images) for name, images in of_session.items()}

    def _session(self, name: str, images: Sequence[str]) -> Session:
        outcomes = [o for o in self.results.outcomes if o.image in images]
        results = replace(
            self.results,
            analyses={image: self.results.analyses[image] for image in images},
            outcomes=outcomes,
        )
        known = {o.image: dict(o.known) for o in outcomes if o.known}
        inputs = [one for one in self.inputs if one.name in images]
        return Session(results, inputs, self.device, self.started, name, known)

    # ---- results
    @property
    def table(self) -> pd.DataFrame:
        """The cluster table of all images."""
        return concatenate([analysis.table for analysis in self.results.analyses.values()])

    @checks_arguments()
    def ratios(
        self, method: str = "counted", *, keep_ratios: bool = False, **options: Any
    ) -> pd.DataFrame:
        """Class ratios of each image and of all, see `statistics.ratios.ratios.class_ratios`.

        Parameters
        ----------
        method : str, optional
            "counted"; or adjusted for errors of the model: "confusion" or "em".
        keep_ratios : bool, optional
            Whether fractions are given even if a session does not fit the classes of the model.
        **options : Any
            Arguments of `class_ratios`, such as ``scope="all"``.

        Returns
        -------
        DataFrame
            A row per class for each image, then for the scope "all".
        """
        own = {
            "images": self.images,
            "limits": limits_of(self.results.analyses.values(), keep_ratios),
            "card": self.results.card,
        }
        return class_ratios(self.table, method=method, **{**own, **options})

    @checks_arguments()
    def correct(self, image: str, cluster_id: int | Iterable[int], label: str) -> Self:
        """Return the analyses with a label of a person, see `ImageAnalysis.correct`.

        Parameters
        ----------
        image : str
            Name of the image.
        cluster_id : int or iterable of int
            Clusters of the image.
        label : str
            A class of the model, "unknown" or "aggregate"; "" removes the correction.

        Raises
        ------
        TableError
            If the image, a cluster or the label does not exist.
        """
        if image not in self.results.analyses:
            raise TableError(
                f"there is no image {image!r}", advice=f"Images are {', '.join(self.images[:10])}"
            )
        corrected = self[image].correct(cluster_id, label)
        analyses = {**self.results.analyses, image: corrected}
        return replace(self, results=replace(self.results, analyses=analyses))

    @checks_arguments()
    def compare(
        self,
        reference: str | None = None,
        *,
        samples: str | PathLike[str] | Mapping[str, str] | None = None,
        folder: str | PathLike[str] | None = None,
        keep_ratios: bool = False,
    ) -> SampleComparison:
        """Compare samples by their clusters, as the command ``atomicity compare`` does.

        Parameters
        ----------
        reference : str, optional
            Sample that the others are compared with. Default: the first one.
        samples : path-like or mapping, optional
            Table with the columns image (name or pattern), sample, and further ones such as time;
            or the same as a mapping from image to sample. Default: images of a folder are a sample.
        folder : path-like, optional
            Folder for the tables, figures, sentences and record. Default: nothing is written.
        keep_ratios : bool, optional
            Whether fractions are given even if a session does not fit the classes of the model.

        Returns
        -------
        SampleComparison
            ``.table`` with shares, differences, intervals and p values, and ``.trends``.

        Raises
        ------
        TableError
            If there are fewer than two samples, or none of the name of the reference.
        AtomicityError
            If the table can't be read, or the folder can't be written.
        """
        from ..pipeline.comparison import write_comparison
        from ..statistics.samples.run_evidence import compare_clusters

        rules = self.results.sessions
        if isinstance(samples, Mapping):
            stated = {image: SampleEntry(name) for image, name in samples.items()}
            rules = replace(rules, sample_table=stated)
        elif samples is not None:
            rules = rules.with_sample_table(str(samples))
        rules.check(self.images)
        analyses = self.results.analyses
        outcomes = [
            replace(o, parameters=analyses[o.image].parameters)
            for o in self.outcomes
            if o.image in analyses
        ]
        found = rules.group_samples(outcomes)
        compared = compare_clusters(self.table, outcomes, found, reference, keep_ratios)
        if folder is not None:
            classes = self.results.card.classes
            outcomes = [replace(o, parameters={}) for o in assign_samples(outcomes, found)]
            write_comparison(compared, folder, outcomes=outcomes, classes=classes)
        return compared

    # ---- output
    @property
    def plot(self) -> AnalysisPlots:
        """Plots: ``plot()`` draws the first images, ``plot.diameter()`` and others all clusters.

        Returns
        -------
        AnalysisPlots
            ``plot()`` returns a figure; each other function takes ``axes``, by default those of a
            new figure, and returns them.
        """
        return AnalysisPlots(self._plot_images, list(self))

    def _plot_images(self) -> Any:
        """Plot the first images with the outlines and labels of their clusters."""
        import matplotlib.pyplot as plt

        shown = list(self)[:_MAX_PLOTS]
        columns = min(3, max(1, len(shown)))
        rows = -(-len(shown) // columns) or 1
        figure, axes = plt.subplots(
            rows, columns, figsize=(5.5 * columns, 4.2 * rows), squeeze=False, layout="constrained"
        )
        for one in axes.flat[len(shown) :]:
            one.remove()
        for one, analysis in zip(axes.flat, shown, strict=False):
            analysis.plot(one)
        return figure

    @checks_arguments()
    def plot_ratios(self, axes: Axes | None = None) -> Axes:
        """Plot the fractions of the classes in each image with 95 % intervals.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Axes to draw into. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        return self.plot.ratios(axes)

    @checks_arguments()
    def save(
        self,
        folder: str | PathLike[str],
        method: str = "counted",
        *,
        reference: str | PathLike[str] | None = None,
        keep_ratios: bool = False,
        progress: Progress | bool | None = None,
    ) -> list[Path]:
        """Write the files of the command ``atomicity analyse``; replaces those of an earlier run.

        Parameters
        ----------
        folder : path-like
            Folder for ``clusters.csv``, ``clusters.parquet``, ``ratios.csv``, ``report.html`` and
            ``run.json``.
        method : str, optional
            "counted", "confusion" or "em"; see `ratios`.
        reference : path-like, optional
            Table of known class fractions to compare with.
        keep_ratios : bool, optional
            Whether fractions are given even if a session does not fit the classes of the model.
        progress : callable or bool, optional
            See `analyse`.

        Returns
        -------
        list of pathlib.Path
            The files.

        Raises
        ------
        ModelError, TableError
            If the method is unavailable, or the reference does not match.
        AtomicityError
            If the folder or a file cannot be written.
        """
        return save_results(
            self.results,
            self.inputs,
            RunInfo(self.started, self.device, self.results.interrupted),
            folder,
            method,
            reference=reference,
            keep_ratios=keep_ratios,
            progress=progress,
        )

    def open_in(self, viewer: Any = None) -> Any:
        """Show all images and their clusters in napari, ready to be corrected.

        Parameters
        ----------
        viewer : napari.Viewer, optional
            The viewer. Default: a new one.

        Returns
        -------
        napari.Viewer
        """
        return open_in_viewer(self, viewer)


@dataclass(frozen=True, eq=False, repr=False)
class Session(Analyses):
    """The analyses of one acquisition session: images that were recorded alike.

    Their clusters were labelled jointly, with one intensity per atom for the session and a small
    deviation of each image.

    Parameters
    ----------
    results, inputs, device, started : AnalysedImages, sequence of Input, str, str
        See `Analyses`.
    name : str
        Name of the session.
    known : mapping of str to mapping
        Image → class → share of the clusters, for images of known samples.
    """

    name: str = ""
    known: Mapping[str, Composition] = field(default_factory=dict)

    @property
    def recording(self) -> Recording:
        """How its images were recorded: folder, pixel size and settings of the instrument."""
        return Recording.of(self[0].micrograph)

    @property
    def intensity_per_atom(self) -> pd.Series:
        """Integrated intensity of one atom in counts nm² for each image, NaN if it is unknown."""
        from ..reporting.plots.registry import scales_of

        scales = scales_of(list(self.results.analyses.values()))
        return pd.Series(scales, dtype=float).reindex(self.images)
