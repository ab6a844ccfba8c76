"""Training on stacks of single clusters, and without the scale of the image."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image
from typer.testing import CliRunner

from napari_atomicity import analyse, load
from napari_atomicity.cli.commands import app
from napari_atomicity.core.errors import ModelError, ReadError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.detection import detect
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.models.network import AtomicityNet
from napari_atomicity.models.scale.intensity_scale import usable
from napari_atomicity.training.labelled_files import labelled_files
from napari_atomicity.training.request import FolderSource, TrainRequest
from napari_atomicity.training.run import train
from napari_atomicity.training.score_text import SINGLE_CLUSTERS, describe_accuracy
from napari_atomicity.training.size_selected import from_folder

PIXEL_NM = 0.04
SMALL = PatchSettings(size_px=24)


pytestmark = pytest.mark.usefixtures("no_umap")


def is_single(section):
    return usable(detect(Micrograph(section, PIXEL_NM)).table).tolist() == [True]


@pytest.fixture(scope="module")
def stacks(folder):
    """Class → sections (N, 72, 72) of the small simulated images around single clusters."""
    out = {}
    for label in ("Pt19", "Pt70"):
        sections = []
        for path in sorted((folder / label).iterdir()):
            image = load(path)
            table = detect(image).table
            for y, x in table.loc[~table["touches_neighbour"], ["y_px", "x_px"]].to_numpy(int):
                section = image.data[max(y - 36, 0) : y + 36, max(x - 36, 0) : x + 36]
                if (
                    section.shape == (72, 72)
                    and usable(detect(Micrograph(section, PIXEL_NM)).table).all()
                ):
                    sections.append(section)
        out[label] = np.stack(sections)
    return out


def write_stacks(root, stacks):
    for label, stack in stacks.items():
        np.save(root / f"{label}.npy", stack)


def write_archives(root, stacks):
    whole = np.concatenate(list(stacks.values()))
    labels = np.repeat(list(stacks), [len(s) for s in stacks.values()])
    np.savez(root / "clusters.npz", images=whole, labels=labels)


def write_numbers(root, stacks):
    """An archive with numbers of atoms as labels."""
    whole = np.concatenate(list(stacks.values()))
    labels = np.repeat([19, 70], [len(s) for s in stacks.values()])
    np.savez_compressed(root / "clusters.npz", X=whole, y=labels)


def write_folders(root, stacks):
    for label, stack in stacks.items():
        (root / label).mkdir()
        tifffile.imwrite(root / label / "stack.tif", stack)


def write_pages(root, stacks):
    """One file of several pages for each class."""
    for label, stack in stacks.items():
        tifffile.imwrite(root / f"{label}.tif", stack, photometric="minisblack")


def write_pictures(root, stacks):
    """An 8-bit PNG file for each cluster, in the folder of its class."""
    for label, stack in stacks.items():
        (root / label).mkdir()
        for i, section in enumerate(stack.astype(float)):
            grey = np.round(255 * (section - section.min()) / np.ptp(section)).astype(np.uint8)
            Image.fromarray(grey).save(root / label / f"{i:03d}.png")


def write_channel_axis(root, stacks):
    """An archive (N, Y, X, 1) with labels, as machine-learning libraries store images."""
    whole = np.concatenate(list(stacks.values()))
    labels = np.repeat(list(stacks), [len(s) for s in stacks.values()])
    np.savez(root / "clusters.npz", X=whole[..., None], y=labels)


def write_single_files(root, stacks):
    """One file per cluster, and a table of their classes."""
    rows = [(f"images/{c[::-1]}-{i}.tif", c) for c in stacks for i in range(len(stacks[c]))]
    (root / "images").mkdir()
    for (name, _), image in zip(rows, np.concatenate(list(stacks.values())), strict=True):
        tifffile.imwrite(root / name, image)
    pd.DataFrame(rows, columns=["image", "label"]).to_csv(root / "labels.csv", index=False)


def write_table_of_frames(root, stacks):
    """One stack in random order, and a table of the classes of its frames."""
    whole = np.concatenate(list(stacks.values()))
    labels = np.repeat(list(stacks), [len(s) for s in stacks.values()])
    order = np.random.default_rng(0).permutation(len(whole))
    np.save(root / "all.npy", whole[order])
    table = pd.DataFrame({"image": "all.npy", "frame": range(len(whole)), "label": labels[order]})
    table.sample(frac=1, random_state=1).to_csv(root / "labels.csv", index=False)


LAYOUTS = [
    write_stacks,
    write_archives,
    write_folders,
    write_pages,
    write_pictures,
    write_channel_axis,
    write_single_files,
    write_table_of_frames,
]


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_gives_the_same_clusters(stacks, tmp_path, write):
    write(tmp_path, stacks)
    part, classes = from_folder(tmp_path, SMALL, PIXEL_NM)
    assert classes == ["Pt19", "Pt70"]
    total = sum(map(len, stacks.values()))
    assert len(part) + sum(part.left_out.values()) == total
    assert len(part) >= 0.9 * total  # an outlier may be left out
    assert part.table["image"].nunique() == len(part)  # each can be held out
    diameter = part.table.groupby("truth")["diameter_nm"].mean()
    assert diameter["Pt19"] < diameter["Pt70"]
    middle = part.patches["raw"][:, 8:16, 8:16].mean(axis=(1, 2))
    assert (middle > part.patches["raw"].mean(axis=(1, 2))).all()


def test_labels_may_be_numbers_of_atoms(stacks, tmp_path):
    write_numbers(tmp_path, stacks)
    for source in (tmp_path, tmp_path / "clusters.npz"):
        part, classes = from_folder(source, SMALL, PIXEL_NM)
        assert classes == ["19", "70"]
        assert set(part.table["truth"]) == {"19", "70"}


def test_labels_that_are_indices_are_refused(stacks, tmp_path):
    whole = np.concatenate(list(stacks.values()))
    labels = np.repeat([0, 1], [len(s) for s in stacks.values()])
    np.savez(tmp_path / "clusters.npz", X=whole, y=labels)
    with pytest.raises(ReadError, match="the class '0' gives no number of atoms") as caught:
        labelled_files(tmp_path)
    assert "not by an index" in caught.value.advice


def test_a_folder_that_does_not_exist_is_named_as_such(tmp_path):
    with pytest.raises(ReadError, match="there is no such folder"):
        labelled_files(tmp_path / "sizes")


def test_images_of_a_series_are_no_classes(tmp_path):
    for i in (1, 2):
        tifffile.imwrite(tmp_path / f"field_0{i}.tif", np.zeros((8, 8), np.uint16))
    with pytest.raises(ReadError, match=r"field_01\.tif: it is one image, not a stack"):
        labelled_files(tmp_path)


def test_a_frame_without_a_cluster_is_counted(stacks, tmp_path):
    empty = np.random.default_rng(0).normal(100, 1, (2, 72, 72)).astype(np.float32)
    write_stacks(tmp_path, {**stacks, "Pt19": np.concatenate([empty, stacks["Pt19"]])})
    part, _ = from_folder(tmp_path, SMALL, PIXEL_NM)
    assert part.left_out["no cluster"] >= 2
    assert not set(part.table["image"]) & {"Pt19.npy#0", "Pt19.npy#1"}


def test_a_table_or_an_archive_that_does_not_fit_is_named(stacks, tmp_path):
    write_stacks(tmp_path, stacks)
    table = tmp_path / "labels.csv"
    for text, words in [
        ("image,class\nPt19.npy,Pt19\n", "lacks the column label"),
        ("image,label\nPt19.npy,Pt19\nPt30.npy,Pt30\n", "Pt30.npy is in the table and not in"),
        ("image,label\nPt19.npy,Pt19\nPt70.npy,notes\n", "'notes' gives no number"),
        ("image,label\nPt19.npy,Pt19\nPt19.npy,Pt70\n", "Pt19.npy is in several rows"),
        ("image,frame,label\nPt19.npy,0,Pt19\nPt19.npy,2,Pt70\n", "are not 0 to 1"),
        ("image,label\nPt19.npy,Pt19\n", "two classes"),
    ]:
        table.write_text(text)
        with pytest.raises(ReadError, match=words):
            labelled_files(tmp_path)
    table.write_text("image,frame,label\nPt19.npy,0,Pt19\nPt19.npy,1,Pt70\n")
    with pytest.raises(ReadError, match="frames and 2 labels"):
        from_folder(tmp_path, SMALL, PIXEL_NM)
    table.unlink()
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ReadError, match=r"broken\.npz"):
        labelled_files(tmp_path)


# ---- without scale
def test_a_patch_in_its_own_unit_is_independent_of_gain():
    torch.manual_seed(0)
    network = AtomicityNet(("raw", "LCN"), 3, width=4, raw_unit="patch").eval()
    patches = {c: torch.rand(4, 24, 24) for c in ("raw", "LCN")}
    other = {**patches, "raw": 250 * patches["raw"]}
    with torch.inference_mode():
        torch.testing.assert_close(network(patches).logits, network(other).logits)
        flat = network({**patches, "raw": torch.full((4, 24, 24), 7.0)})
        scaled = AtomicityNet(("raw", "LCN"), 3, width=4).eval()
        assert not torch.allclose(scaled(patches).logits, scaled(other).logits)
    assert torch.isfinite(flat.logits).all()


@pytest.mark.filterwarnings("error")
def test_no_patches_give_no_scores_and_no_warning():
    network = AtomicityNet(("raw", "LCN"), 3, width=4, raw_unit="patch").eval()
    patches = {c: torch.zeros(0, 24, 24) for c in ("raw", "LCN")}
    with torch.inference_mode():
        assert network(patches).logits.shape == (0, 3)


def test_a_card_says_its_unit_only_if_it_is_not_the_usual_one():
    usual = ModelCard("m", ("Pt19", "Pt70"))
    assert "raw_unit" not in usual.to_dict()["patches"]
    own = ModelCard("m", ("Pt19", "Pt70"), PatchSettings(raw_unit="patch"))
    assert ModelCard.from_dict(own.to_dict()) == own
    assert ModelCard.from_dict(usual.to_dict()) == usual


def test_a_model_without_scale_labels_by_the_patches_alone(stacks, tmp_path, folder):
    data, out = tmp_path / "data", tmp_path / "own.safetensors"
    data.mkdir()
    write_stacks(data, stacks)
    arguments = ["--data", str(data), "--out", str(out), "--pixel-size-nm", str(PIXEL_NM)]
    settings = ["--scale", "none", "--patch-nm", "2.4", "--patch-px", "32"]
    settings += ["--lcn-window-nm", "0.4", "--epochs", "3", "--start", "scratch", "--json"]
    result = CliRunner().invoke(app, ["train", *arguments, *settings, "--device", "cpu"])
    assert result.exit_code == 0, result.stderr
    patches = json.loads(result.stdout)["patches"]
    assert patches == {
        "field_of_view_nm": 2.4, "size_px": 32, "lcn_window_nm": 0.4,
        "channels": ["raw", "LCN"], "raw_unit": "patch",
    }  # fmt: skip
    assert "one cluster each" not in result.stderr
    image = load(folder / "Pt70" / "0.tif")
    table = analyse(image, load_classifier(out, "cpu"), umap=False).table
    classes = table["label"].isin(["Pt19", "Pt70"])
    assert (table["label"] == table["label_network"])[classes].all()


def test_single_clusters_with_the_scale_of_a_session_are_warned_of(stacks, tmp_path):
    write_stacks(tmp_path, stacks)
    request = TrainRequest(
        FolderSource(tmp_path), tmp_path / "out" / "m.safetensors", start="scratch", epochs=1,
        pixel_size_nm=PIXEL_NM, device="cpu", patch_px=24,
    )  # fmt: skip
    assert SINGLE_CLUSTERS in describe_accuracy(train(request))


def test_weights_of_another_unit_are_no_start(folder, tmp_path):
    request = TrainRequest(FolderSource(folder), tmp_path / "m.safetensors", scale="none")
    with pytest.raises(ModelError, match="another unit of the raw channel"):
        train(request)
    assert not request.out.exists()
