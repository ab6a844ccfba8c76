"""Linkage against brute force; atoms and clusters, both ways."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from napari_atomicity.core.tables import cluster_table as tables
from napari_atomicity.statistics.points.atom_groups import (
    KINDS,
    atoms_of_clusters,
    clusters_of_atoms,
    extents,
    group_table,
    grouped,
    kind_of,
    kinds,
    link,
    size_distribution,
    sizes,
)

# positions on a grid of 1/16 nm: distances are exact, so that a tie is one in any arithmetic
POINTS = st.integers(0, 25).flatmap(
    lambda n: arrays(float, (n, 2), elements=st.integers(0, 48).map(lambda i: i / 16))
)


def brute_force(points: np.ndarray, distance: float) -> np.ndarray:
    """(N, N) whether two atoms are in one group: the closure of who is near whom."""
    joined = cdist(points, points) <= distance
    for _ in range(len(points)):
        joined = joined @ joined
    return joined


def together(group_id: np.ndarray) -> np.ndarray:
    return group_id[:, None] == group_id[None, :]


@settings(max_examples=60, deadline=None)
@given(POINTS)
def test_linkage_is_the_closure_of_being_near(points):
    group_id, size = link(points, 0.3125)
    expected = brute_force(points, 0.3125)
    assert (together(group_id) == expected).all()
    assert (size == expected.sum(axis=0)).all()
    assert sizes(group_id).sum() == len(points)


@settings(max_examples=40, deadline=None)
@given(POINTS, st.randoms(use_true_random=False), st.sampled_from([0.25, 2.0, 8.0]))
def test_neither_order_nor_unit_matters(points, random, scale):
    order = list(range(len(points)))
    random.shuffle(order)
    group_id, size = link(points, 0.3125)
    other_id, other_size = link(points[order] * scale, 0.3125 * scale)
    assert (together(group_id[order]) == together(other_id)).all()
    assert (size[order] == other_size).all()
    # numbered from 1 without gaps, as they occur
    firsts = pd.unique(other_id)
    assert firsts.tolist() == list(range(1, len(firsts) + 1))


def test_atoms_at_the_very_distance_are_linked():
    assert link(np.array([[0, 0], [0, 0.25]]), 0.25)[1].tolist() == [2, 2]
    assert link(np.array([[0, 0], [0, 0.2501]]), 0.25)[1].tolist() == [1, 1]


def test_an_atom_without_a_position_is_in_no_group():
    group_id, size = link(np.array([[0, 0], [np.nan, 1], [0, 0.1]]))
    assert group_id.tolist() == [1, 0, 1]
    assert size.tolist() == [2, 0, 2]


@pytest.mark.parametrize("distance", [0, -1, np.nan, np.inf])
def test_a_distance_that_is_none_is_refused(distance):
    with pytest.raises(ValueError, match="not positive"):
        link(np.zeros((2, 2)), distance)


def test_of_atoms_at_random_as_many_are_isolated_as_chance_says():
    points = np.random.default_rng(0).uniform(0, 300, (100_000, 2))
    _, size = link(points, 0.3)
    # of atoms strewn at random, exp(-πλd²) have no neighbour within d; the rim has a few more
    expected = np.exp(-np.pi * 100_000 / 300**2 * 0.3**2)
    assert (size == 1).mean() == pytest.approx(expected, abs=0.01)


def test_kinds_of_groups():
    assert kind_of(np.arange(9)).tolist() == [
        "", "isolated", "dimer", *["multimer"] * 4, "cluster", "cluster",
    ]  # fmt: skip
    distribution = size_distribution(np.array([1, 1, 1, 2, 5, 9]))
    assert distribution["size"].tolist() == [1, 2, 5, 9]
    assert distribution["atoms"].tolist() == [3, 2, 5, 9]
    assert distribution["share_of_atoms"].sum() == pytest.approx(1)
    by_kind = kinds(np.array([1, 1, 1, 2, 9])).set_index("kind")
    assert by_kind.index.tolist() == list(KINDS)
    assert by_kind["groups"].tolist() == [3, 1, 0, 1]
    assert by_kind["share_of_groups"].tolist() == [0.6, 0.2, 0, 0.2]


def test_no_atoms_have_no_groups():
    group_id, size = link(np.empty((0, 2)))
    assert len(group_id) == len(size) == 0
    assert size_distribution(sizes(group_id)).empty
    assert kinds(sizes(group_id))["share_of_atoms"].tolist() == [0, 0, 0, 0]


def atom_rows(nm: list[tuple[float, float]], image: str = "a", frame: int = 0) -> pd.DataFrame:
    points = np.array(nm, float).reshape(-1, 2)
    return pd.DataFrame(
        {
            "image": image, "frame": frame, "atom_id": np.arange(1, len(points) + 1),
            "y_px": points[:, 0] * 20, "x_px": points[:, 1] * 20,
            "y_nm": points[:, 0], "x_nm": points[:, 1],
        }
    )  # fmt: skip


def test_a_table_is_grouped_frame_by_frame():
    one = atom_rows([(0, 0), (0, 0.2), (3, 3)])
    table = pd.concat([one, one.assign(frame=1), one.assign(image="b")], ignore_index=True)
    out = grouped(table)
    assert out["group_id"].tolist() == [1, 1, 2, 3, 3, 4, 1, 1, 2]
    assert out["group_size"].tolist() == [2, 2, 1] * 3
    assert "group_id" not in table.columns


def test_the_table_of_groups_has_a_row_per_group():
    one = atom_rows([(0, 0), (3, 3), (0, 0.2), (np.nan, 1), (0.2, 0.2)])
    table = grouped(pd.concat([one, one.assign(image="b", frame=2)], ignore_index=True))
    groups = group_table(table)
    assert groups["image"].tolist() == ["a", "a", "b", "b"]
    assert groups["frame"].tolist() == [0, 0, 2, 2]
    assert groups["group_id"].tolist() == [1, 2, 1, 2]
    assert groups["kind"].tolist() == ["multimer", "isolated"] * 2
    assert groups["n_atoms"].tolist() == [3, 1] * 2
    assert groups["extent_nm"].tolist() == pytest.approx([0.2 * np.sqrt(2), 0] * 2)
    assert groups.loc[0, ["y_nm", "x_px"]].tolist() == pytest.approx([0.2 / 3, 0.4 / 3 * 20])
    empty = group_table(grouped(atom_rows([])))
    assert list(empty.columns) == list(groups.columns) and empty.empty


def cluster_rows() -> pd.DataFrame:
    return tables.conform(
        pd.DataFrame(
            {
                "image": ["a", "a", "b"], "cluster_id": [4, 7, 4],
                "y_nm": [1.0, 1.0, 1.0], "x_nm": [1.0, 1.8, 1.0], "diameter_nm": [1.0, 1.0, 1.0],
                "y_px": [20.0, 20.0, 20.0], "x_px": [20.0, 36.0, 20.0],
            }
        )
    )  # fmt: skip


def test_each_cluster_knows_its_atoms_and_the_other_way_round():
    atoms = atom_rows([(1, 1.1), (1, 1.45), (1, 1.7), (4, 4), (np.nan, 1)])
    clusters = cluster_rows()
    atoms["cluster_id"] = clusters_of_atoms(atoms, clusters)
    assert atoms["cluster_id"].dtype == "Int64"
    # the second lies in both discs, nearer to the centre of 7
    assert atoms["cluster_id"].fillna(0).tolist() == [4, 7, 7, 0, 0]
    held = atoms_of_clusters(atoms, clusters)
    assert held["atom_ids"].tolist() == [[1], [2, 3], []]
    assert held["n_atoms_found"].tolist() == [1, 2, 0]


def test_an_outline_decides_where_there_is_one():
    # a stick along y, beside which the disc of the same area reaches too far in x
    stick = np.array([[0, 18], [0, 22], [40, 22], [40, 18], [0, 18]], float)
    atoms = atom_rows([(0.2, 1), (1, 1.3)])
    clusters = cluster_rows().iloc[:1]
    assert clusters_of_atoms(atoms, clusters, [stick]).fillna(0).tolist() == [4, 0]
    assert clusters_of_atoms(atoms, clusters).fillna(0).tolist() == [0, 4]
    assert clusters_of_atoms(atoms, clusters, [np.empty((0, 2))]).fillna(0).tolist() == [0, 4]
    with pytest.raises(ValueError, match="2 outlines for 1 clusters"):
        clusters_of_atoms(atoms, clusters, [stick, stick])


def test_frames_and_images_are_kept_apart():
    atoms = pd.concat([atom_rows([(1, 1)], "b"), atom_rows([(1, 1)], "a", frame=1)])
    found = clusters_of_atoms(atoms, cluster_rows())
    assert found.fillna(0).tolist() == [4, 0]


def test_no_atoms_and_no_clusters():
    none = atom_rows([])
    assert clusters_of_atoms(none, cluster_rows()).empty
    atoms = atom_rows([(1, 1)])
    atoms["cluster_id"] = clusters_of_atoms(atoms, tables.empty())
    assert atoms["cluster_id"].isna().all()
    assert atoms_of_clusters(atoms, tables.empty()).empty


def test_the_extent_of_a_group_is_its_largest_distance():
    line = np.stack([np.zeros(5), 0.25 * np.arange(5)], axis=1)  # a chain of five
    alone = np.array([[9.0, 9.0]])
    pair = np.array([[5.0, 5.0], [5.0, 5.2]])
    points = np.concatenate([line, alone, pair])
    group_id, _ = link(points, 0.3)
    assert extents(points, group_id) == pytest.approx([1.0, 0.0, 0.2])


def test_extents_of_many_atoms_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    for points in (rng.uniform(0, 3, (200, 2)), np.stack([np.zeros(80), np.arange(80.0)], 1)):
        group_id = np.ones(len(points), int)
        expected = np.linalg.norm(points[:, None] - points[None], axis=2).max()
        assert extents(points, group_id) == pytest.approx([expected], rel=1e-6)


def test_atoms_of_no_group_have_no_extent():
    table = pd.DataFrame(
        {"image": "a", "frame": 0, "y_nm": [0.0, 0.0, np.nan], "x_nm": [0.0, 0.2, 1.0]}
    )
    assert grouped(table)["group_extent_nm"].tolist() == pytest.approx(
        [0.2, 0.2, np.nan], nan_ok=True
    )
