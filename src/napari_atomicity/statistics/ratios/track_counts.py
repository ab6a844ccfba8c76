"""Clusters of movies as they count: a track is one cluster, however many frames show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ...core.tables.cluster_table import (
    NO_TRACK,
    classes_of,
    is_excluded,
    probability_columns,
)
from ...core.text import pluralise
from ..track_smoothing import Track, other_class, smooth_tracks

PATH = "path"
"""Column of `merge_tracks`: the smoothed label of a track in each of its frames."""


def merge_tracks(table: pd.DataFrame) -> pd.DataFrame:
    """Return a cluster table in which each track is one row.

    The label of a track is the smoothed label (`track_smoothing`) of most of its frames, with the
    rate of changes estimated from all tracks of the image: a table does not have the settings of
    the movie, so that a rate that was given does not apply. The probabilities of a track are means
    over its frames, and its confidence is that of its label; its predicted label is that of most
    frames, and its number of atoms is the mean. It is corrected if one of its clusters is. It
    touches the border, or is excluded, if most of its clusters do. Clusters of a tracked movie that
    are in no track are omitted; other images are unchanged. If there are tracks, the column `PATH`
    has an array for each track, otherwise None.
    """
    tracked = tracked_rows(table)
    if not tracked.any():
        return table
    parts = [table[~tracked].assign(**{PATH: None})]
    for _, movie in table[tracked].groupby("image", sort=False):
        p = movie[probability_columns(classes_of(movie))]
        own = movie.drop(columns=p.columns[p.isna().all()])  # other images have other classes
        parts.append(_merge(own, smooth_tracks(own)[0]))
    merged = pd.concat([part for part in parts if len(part)], ignore_index=True)
    # Classes that no row has a probability of are left out above.
    return merged.reindex(columns=[*table.columns, PATH])


def answers_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return the clusters with a label by a person; of each track, one of the frames.

    It is the first frame with the most frequent label of a person and, of these, the most frequent
    predicted label: what was labelled is compared with what was predicted there.
    """
    rows = table[table["label_corrected"] != ""].reset_index(drop=True)
    in_track = tracked_rows(rows) & (rows.get("track_id", NO_TRACK) != NO_TRACK)
    if not in_track.any():
        return rows
    track, frames = ["image", "track_id"], rows[in_track]
    for column in ("label_corrected", "label_predicted"):
        n = frames.groupby([*track, column])[column].transform("size")
        frames = frames[n == n.groupby([frames[key] for key in track]).transform("max")]
        first = frames.groupby(track)[column].transform("first")  # of several as frequent ones
        frames = frames[frames[column] == first]
    picked = frames.drop_duplicates(track).index
    return rows[~in_track | rows.index.isin(picked)]


def tracked_rows(table: pd.DataFrame) -> pd.Series:
    """Return which rows belong to images whose clusters are linked between frames."""
    linked = table["track_id"] != NO_TRACK if "track_id" in table.columns else None
    if linked is None or not linked.any():
        return pd.Series(False, index=table.index)
    return linked.groupby(table["image"]).transform("max").astype(bool)


def untracked_in_movies(table: pd.DataFrame) -> int:
    """Return the number of clusters of tracked movies that are in no track."""
    tracked = tracked_rows(table)
    return int((table.loc[tracked, "track_id"] == NO_TRACK).sum()) if tracked.any() else 0


def stacks_without_tracks(table: pd.DataFrame) -> set[str]:
    """Return the images with clusters in several frames that are not linked between them."""
    if not (table["frame"] > 0).any():
        return set()
    frames = table.loc[~tracked_rows(table)].groupby("image")["frame"].nunique()
    return set(frames.index[frames > 1].astype(str))


def time_fractions(
    merged: pd.DataFrame,  # counted rows of `merge_tracks`
    labels: Sequence[str],
) -> np.ndarray:  # (n_labels,): NaN without tracks
    """Compute the fraction of the time of all tracks that each label lasts."""
    paths = [p for p in merged.get(PATH, ()) if p is not None]
    frames = Counter(label for path in paths for label in path)
    total = frames.total()
    return np.array([frames[label] / total if total else np.nan for label in labels])


def count_clusters(table: pd.DataFrame | Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Count the clusters of one image, and those that a person has labelled: tracks of a movie."""
    labelled = np.asarray(table["label_corrected"], object) != ""
    track = np.asarray(table.get("track_id", np.zeros(0, int)))
    linked = track != NO_TRACK
    if not linked.any():
        return len(labelled), int(labelled.sum())
    return len(np.unique(track[linked])), len(np.unique(track[linked & labelled]))


def describe_clusters(table: pd.DataFrame, n_frames: int) -> str:
    """Format the number of clusters of one image: "8 clusters in 10 frames".

    It is the number of tracks of a movie, or the median per frame of a stack without tracks.
    """
    clusters = pluralise(count_clusters(table)[0], "cluster")
    if n_frames == 1:
        return clusters
    if tracked_rows(table).any():
        return f"{clusters} in {n_frames} frames"
    per_frame = np.bincount(table["frame"].to_numpy(int), minlength=n_frames)
    each = pluralise(int(np.median(per_frame)), "cluster")
    return f"{each} per frame (median of {n_frames})"


def without_excluded(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the clusters outside excluded regions; of others say "; 12 more excluded", or ""."""
    excluded = is_excluded(table)
    if not excluded.any():  # no copy: there may be hundreds of images
        return table, ""
    return table[~excluded], f"; {excluded.sum()} more excluded"


def _merge(movie: pd.DataFrame, tracks: Sequence[Track]) -> pd.DataFrame:
    """Return one row for each track of a movie."""
    columns = probability_columns(classes_of(movie))
    first = [track.rows[track.detected][0] for track in tracks]
    out = movie.iloc[first].copy()
    members = [movie.iloc[track.rows[track.detected]] for track in tracks]
    paths = [_labels(track, rows, columns) for track, rows in zip(tracks, members, strict=True)]
    labels = [Counter(path).most_common(1)[0][0] for path in paths]
    corrected = [bool((rows["label_corrected"] != "").any()) for rows in members]
    out["label"] = labels
    # NaN, the confidence of no label, where no frame tells anything
    out["confidence"] = [
        float(track.p[path == label].mean()) if (path == track.label).all() else np.nan
        for track, path, label in zip(tracks, paths, labels, strict=True)
    ]
    predicted = [rows["label_predicted"] for rows in members]
    out["label_predicted"] = [Counter(names).most_common(1)[0][0] for names in predicted]
    out["label_corrected"] = [
        label if is_corrected else "" for label, is_corrected in zip(labels, corrected, strict=True)
    ]
    if columns:
        p = np.array([track.posterior[:, : len(columns)].mean(axis=0) for track in tracks])
        out[columns] = p / np.maximum(p.sum(axis=1, keepdims=True), 1e-12)
    for number in {"n_atoms", "n_atoms_low", "n_atoms_high"} & set(movie.columns):
        out[number] = [float(rows[number].mean()) for rows in members]
    for flag in {"touches_border", "excluded"} & set(movie.columns):
        out[flag] = [bool(rows[flag].astype(bool).mean() > 0.5) for rows in members]
    out[PATH] = pd.Series(paths, index=out.index, dtype=object)
    return out


def _labels(track: Track, rows: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Return the label in each frame; the most frequent one if the model tells nothing."""
    corrected = rows["label_corrected"].astype(str)
    if other_class(corrected.tolist(), [c[2:] for c in columns]):
        return track.label
    informative = (rows["label_predicted"] != "") & ~rows["touches_border"].astype(bool)
    if columns:
        informative &= rows[columns].notna().all(axis=1)
    if not columns or not (informative | (corrected != "")).any():
        return np.full(len(track.rows), rows["label"].astype(str).mode()[0], object)
    return track.label
