"""Training as it is asked for: three sources, a start, and going on where it was."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from napari_atomicity import load
from napari_atomicity.cli.commands import app
from napari_atomicity.core.errors import AtomicityError, Cancelled, ModelError, ReadError
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.core.tables.cluster_table import settle_labels
from napari_atomicity.detection import detect
from napari_atomicity.io.tables import write_clusters
from napari_atomicity.models.files import read_model
from napari_atomicity.models.network import AtomicityNet
from napari_atomicity.models.scale.intensity_scale import usable
from napari_atomicity.reporting.plots.training import describe_training
from napari_atomicity.simulation.field_settings import random_settings
from napari_atomicity.training import prepared_sets
from napari_atomicity.training.augmentation import augmented, blurred, noise_of
from napari_atomicity.training.calibration import out_of_distribution
from napari_atomicity.training.calibration.scaling import fit_scale_reference, scale_patches
from napari_atomicity.training.checkpoint import Checkpoint, load_patches, save_patches
from napari_atomicity.training.classifier import (
    continue_on_all_images,
    train_classifier,
    transfer_weights,
)
from napari_atomicity.training.data import hold_out, split_by_image
from napari_atomicity.training.fit import best_epoch, fit_network, map_distance
from napari_atomicity.training.prepared_sets import (
    from_corrections,
    from_simulation,
    tables_with_images,
)
from napari_atomicity.training.request import (
    MAX_EPOCHS,
    MIN_EPOCHS,
    CorrectedImagesSource,
    CorrectionsSource,
    FolderSource,
    SimulationSource,
    TrainingSettings,
    TrainRequest,
    settings_for,
)
from napari_atomicity.training.run import train
from napari_atomicity.training.score_text import describe_accuracy
from napari_atomicity.training.size_selected import from_folder

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("no_umap")


def toy(n: int = 48, seed: int = 0):
    """Bright and dark discs of two classes: channel → patches, and labels."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 2
    x = torch.randn(n, 16, 16, generator=generator)
    x[:, 5:11, 5:11] += (8.0 + 12 * label)[:, None, None]
    return {"raw": x}, label


def network(seed: int = 0) -> AtomicityNet:
    torch.manual_seed(seed)
    return AtomicityNet(("raw",), 2, width=4)


# ---- going on
def test_a_fit_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    settings = TrainingSettings(epochs=5, batch_size=16, seed=3, conditions=0.5)
    whole = network()
    history = fit_network(whole, toy(), toy(24, 1), settings, CPU)

    checkpoint = Checkpoint(tmp_path / "c.safetensors", "key")
    steps = []

    def stop() -> bool:  # in the middle of the fourth epoch
        steps.append(1)
        return len(steps) > 3 * 3 + 1

    with pytest.raises(Cancelled):
        fit_network(network(), toy(), toy(24, 1), settings, CPU, stop=stop, checkpoint=checkpoint)
    seen = []
    resumed = network(seed=99)  # whatever it starts from: the checkpoint counts
    again = fit_network(
        resumed, toy(), toy(24, 1), settings, CPU, on_epoch=seen.append, checkpoint=checkpoint
    )
    assert [len(h) for h in seen] == [4, 5]
    assert again == history
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_of_another_request_or_a_damaged_one_is_not_gone_on_from(tmp_path):
    path = tmp_path / "c.safetensors"
    Checkpoint(path, "a").save({"history": []}, {"network": {"w": torch.ones(2)}})
    assert Checkpoint(path, "a").load()[1]["network"]["w"].tolist() == [1, 1]
    assert Checkpoint(path, "b").load() is None
    path.write_bytes(path.read_bytes()[:20])
    assert Checkpoint(path, "a").load() is None
    assert Checkpoint(tmp_path / "none.safetensors", "a").load() is None


def test_patience_ends_the_fit_and_the_best_weights_remain():
    settings = TrainingSettings(epochs=60, batch_size=16, patience=3, learning_rate=0.03)
    held, wrong = toy(24, 1)
    fitted = network()
    history = fit_network(fitted, toy(), (held, 1 - wrong), settings, CPU)  # it can only get worse
    assert len(history) < 60
    assert len(history) - best_epoch(history) == 3
    with torch.inference_mode():
        logits = fitted(held).logits
    loss = torch.nn.functional.cross_entropy(logits, 1 - wrong)
    assert float(loss) == pytest.approx(min(h["held_out_loss"] for h in history), rel=1e-3)


def test_few_clusters_are_trained_for_as_many_steps_as_many():
    def epochs(n_clusters, **options):
        request = TrainRequest(FolderSource(Path("set")), Path("m.safetensors"), **options)
        return settings_for(request, n_clusters).epochs

    assert 80 <= epochs(400, start="scratch") <= 90  # 1,000 batches of 32
    assert 245 <= epochs(400, start="scratch", scale="none") <= 255  # 3,000
    assert epochs(50_000, start="scratch") == epochs(400) == MIN_EPOCHS
    assert epochs(10, start="scratch") == MAX_EPOCHS
    assert epochs(400, start="scratch", epochs=3) == 3


def test_the_automatic_number_of_epochs_converges():
    """The training loss of the last quarter of the epochs falls by less than 2 %."""
    request = TrainRequest(
        FolderSource(Path("set")), Path("m.safetensors"), ("raw",), start="scratch", scale="none"
    )
    settings = replace(settings_for(request, 48), neighbours=0.0)
    history = fit_network(network(), toy(), toy(24, 1), settings, CPU)
    loss = np.array([h["loss"] for h in history])
    quarter = len(loss) // 4
    before, after = loss[-quarter : -quarter // 2].mean(), loss[-quarter // 2 :].mean()
    assert before - after < 0.02 * before
    assert history[-1]["accuracy"] == 1


def test_patches_are_shifted_by_whole_pixels_and_alike_in_all_channels():
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(64, 9, 9)
    x[:, 4, 4] = 1
    out = augmented({"raw": x, "LCN": 2 * x}, 0.0, generator, shift_px=2)
    torch.testing.assert_close(out["LCN"], 2 * out["raw"])
    place = out["raw"].flatten(1).argmax(dim=1)
    assert (out["raw"].sum(dim=(1, 2)) == 1).all()
    assert set((place // 9 - 4).tolist()) == set((place % 9 - 4).tolist()) == {-2, -1, 0, 1, 2}


def test_without_scale_patches_are_smaller_of_the_same_pixels():
    def patches(**options):
        return TrainRequest(FolderSource(Path("set")), Path("m.safetensors"), **options).patches

    usual, own = patches(), patches(scale="none")
    assert own.field_of_view_nm < usual.field_of_view_nm
    assert own.field_of_view_nm / own.size_px == pytest.approx(
        usual.field_of_view_nm / usual.size_px
    )
    given = patches(scale="none", patch_nm=2.8, patch_px=56)
    assert (given.field_of_view_nm, given.size_px) == (2.8, 56)


def test_held_out_images_are_learnt_after_they_calibrated(folder):
    whole, classes = from_folder(folder)
    held = hold_out(whole.table, 0.2, np.random.default_rng(0))
    sets = [whole.take(~held), whole.take(held)]
    settings = TrainingSettings(epochs=2, batch_size=16, width=4)
    card, tensors = train_classifier(
        *sets, ModelCard("mine", tuple(classes)), settings, "cpu", with_map=False
    )
    after, all_tensors = continue_on_all_images((card, tensors), sets, settings, "cpu")
    assert (after.temperature, after.bias, after.confusion) == (
        card.temperature, card.bias, card.confusion,
    )  # fmt: skip
    assert len(all_tensors["reference.label"]) == len(whole) > len(tensors["reference.label"])
    moved = all_tensors["network.head.weight"] - tensors["network.head.weight"]
    assert np.abs(moved).max() > 0
    assert after.training["epochs_of_all_images"] == 1


def test_a_pupil_learns_the_class_maps_of_its_teacher():
    (x, label), settings = toy(), TrainingSettings(epochs=12, batch_size=16, map_weight=2.0)
    torch.manual_seed(1)
    teacher = AtomicityNet(("raw",), 2, width=8)
    fit_network(teacher, toy(), toy(24, 1), settings, CPU)

    def distance(pupil):
        with torch.inference_mode():
            maps = [n.class_maps(n(x).maps, label) for n in (pupil, teacher)]
        return float(map_distance(*maps))

    alone, taught = network(), network()
    fit_network(alone, toy(), toy(24, 1), settings, CPU)
    history = fit_network(taught, toy(), toy(24, 1), settings, CPU, teacher=teacher)
    assert distance(teacher) == pytest.approx(0, abs=1e-6)
    assert distance(taught) < 0.7 * distance(alone)
    assert history[-1]["accuracy"] == 1


def test_the_history_tells_the_error_in_atoms_and_who_is_off_by_one():
    history = fit_network(
        network(), toy(), toy(24, 1), TrainingSettings(epochs=1, batch_size=16), CPU, atoms=[19, 70]
    )
    wrong = 1 - history[0]["accuracy"]
    assert history[0]["off_by_one"] == pytest.approx(wrong)
    assert history[0]["error_atoms"] == pytest.approx(51 * wrong)


def test_a_training_that_was_cancelled_goes_on_and_cleans_up(folder, tmp_path):
    request = TrainRequest(
        FolderSource(folder), tmp_path / "m.safetensors", start="scratch", epochs=3, device="cpu"
    )
    expected = train(request)
    interrupted = TrainRequest(
        request.source, tmp_path / "n.safetensors", start="scratch", epochs=3, device="cpu"
    )
    stopped, prepared = [], []

    def on_epoch(history):
        stopped.append(len(history) == 2)

    with pytest.raises(Cancelled):
        train(interrupted, stop=lambda: bool(stopped) and stopped[-1], on_epoch=on_epoch)
    assert interrupted.resumable and not interrupted.out.exists()
    card = train(
        interrupted,
        progress=lambda *a: prepared.append(a[2]),
        on_epoch=lambda history: stopped.append(len(history)),
    )
    assert stopped == [False, True, 3]
    assert not any("Finding clusters" in message for message in prepared)
    assert card.sha256 == expected.sha256  # the very same weights, references and limits
    assert not interrupted.workspace.exists() and not interrupted.resumable


# ---- where it starts
def test_trained_convolutions_are_taken_and_decisions_on_shared_classes(tiny_model):
    other, tensors = read_model(tiny_model)
    card = ModelCard("new", ("Pt19", "Pt30", "Pt70"), other.patches)
    torch.manual_seed(5)
    fresh = AtomicityNet(card.patches.channels, 3, other.width)
    before = fresh.head.weight.detach().clone()
    transfer_weights(fresh, card, other, tensors)
    for name, value in fresh.state_dict().items():
        if name.startswith("branches"):
            np.testing.assert_array_equal(value.numpy(), tensors[f"network.{name}"])
    head = fresh.head.weight.detach()
    np.testing.assert_array_equal(head[[0, 2]].numpy(), tensors["network.head.weight"])
    assert torch.equal(head[1], before[1])


def test_a_single_channel_starts_from_its_branch_of_the_dual_model(tiny_model):
    other, tensors = read_model(tiny_model)
    geometry = PatchSettings(size_px=32, channels=("LCN",))
    fresh = AtomicityNet(("LCN",), 2, other.width)
    transfer_weights(fresh, ModelCard("new", ("Pt19", "Pt70"), geometry), other, tensors)
    np.testing.assert_array_equal(
        fresh.branches["LCN"].last.weight.detach().numpy(),
        tensors["network.branches.LCN.last.weight"],
    )


def test_a_start_that_does_not_fit_is_refused(tiny_model, folder, tmp_path):
    request = TrainRequest(FolderSource(folder), tmp_path / "x.safetensors", start=str(tiny_model))
    with pytest.raises(ModelError, match=r"32 pixels over 2\.8 nm, not of 56"):
        train(request)
    with pytest.raises(ModelError, match="no model 'nowhere'"):
        train(TrainRequest(FolderSource(folder), tmp_path / "x.safetensors", start="nowhere"))


# ---- what is known
def test_the_class_gives_the_scale_of_a_size_selected_image(folder):
    patches, classes = from_folder(folder, PatchSettings(size_px=24))
    _, scale = scale_patches(patches, fit_scale_reference(patches, classes))
    atoms = patches.table["integrated_intensity"] / scale
    middle = atoms[usable(patches.table)].groupby(patches.table["image"]).median()
    for image, value in middle.items():
        assert value == pytest.approx(int(image[2:4]), rel=1e-6)


def test_a_folder_whose_name_gives_no_number_is_refused(tmp_path):
    for name in ("Pt19", "notes"):
        (tmp_path / name).mkdir()
    with pytest.raises(ReadError, match="'notes' gives no number of atoms"):
        from_folder(tmp_path)


def test_mixed_images_are_split_so_that_every_class_is_on_both_sides():
    rng = np.random.default_rng(0)
    rows = [(f"{i}", c) for i in range(6) for c in ("a", "b", "c")[: 2 + i % 2]]
    table = pd.DataFrame(rows, columns=["image", "truth"])
    for _ in range(20):
        held = split_by_image(table, 0.2, rng)
        assert not set(table["image"][held]) & set(table["image"][~held])
        assert set(table["truth"][held]) == set(table["truth"][~held]) == {"a", "b", "c"}


# ---- corrected labels
@pytest.fixture(scope="module")
def corrected(folder):
    """Four images with their tables; some corrections, one of them to "unknown"."""
    pairs = []
    for label in ("Pt19", "Pt70"):
        for i in range(2):
            micrograph = load(folder / label / f"{i}.tif", name=f"{label}/{i}.tif")
            table = detect(micrograph).table.assign(label_predicted="Pt41", label="Pt41")
            whole = np.flatnonzero(~table["touches_border"])
            table.loc[whole[:8], "label_corrected"] = label
            table.loc[whole[8:9], "label_corrected"] = "unknown"
            pairs.append((micrograph, settle_labels(table)))
    return pairs


def test_corrected_clusters_are_cut_where_they_were_measured(corrected, folder):
    part, classes = from_corrections(corrected, PatchSettings(size_px=32))
    assert classes == ["Pt19", "Pt70"]
    left_out = {reason: n for reason, n in part.left_out.items() if n}
    assert len(part) == 32 and left_out == {"no class": 4}
    assert (part.table["truth"] == part.table["image"].str[:4]).all()
    whole, _ = from_folder(folder, PatchSettings(size_px=32))
    same = (whole.table["image"] == "Pt70/1.tif") & (
        whole.table["cluster_id"] == part.table["cluster_id"].iloc[-1]
    )
    if same.any():
        np.testing.assert_allclose(
            part.patches["LCN"][-1], whole.patches["LCN"][np.flatnonzero(same)[0]], atol=1e-5
        )


def test_corrected_clusters_in_excluded_regions_are_not_learnt(corrected):
    first = corrected[0][1]
    excluded = (first["label_corrected"] != "") & (np.arange(len(first)) % 2 == 0)
    assert 0 < excluded.sum() < 8
    pairs = [(corrected[0][0], first.assign(excluded=excluded)), *corrected[1:]]
    part, _ = from_corrections(pairs, PatchSettings(size_px=32))
    n_unknown = int((first["label_corrected"][excluded] == "unknown").sum())
    assert len(part) == 32 - excluded.sum() + n_unknown
    assert part.left_out["excluded"] == excluded.sum() and part.left_out["border"] == 0
    assert part.left_out["no class"] == 4 - n_unknown


def test_labelled_clusters_without_a_size_are_not_learnt(corrected):
    """As one that a person has put on bare support."""
    micrograph, first = corrected[0]
    row = int(np.flatnonzero(first["label_corrected"] == "Pt19")[0])
    first = first.copy()
    first.loc[row, ["diameter_nm", "integrated_intensity"]] = np.nan
    part, _ = from_corrections([(micrograph, first), *corrected[1:]], PatchSettings(size_px=32))
    assert part.left_out["not measured"] == 1 and len(part) == 31
    assert all(np.isfinite(patches).all() for patches in part.patches.values())


def test_tables_find_their_images_and_give_a_model(corrected, folder, tmp_path):
    tables = []
    for i, (_, table) in enumerate(corrected):
        tables.append(write_clusters(table, tmp_path / f"{i}.csv"))
    request = TrainRequest(
        CorrectionsSource(tuple(tables), (folder,)),
        tmp_path / "mine.safetensors",
        start="scratch",
        epochs=2,
        device="cpu",
    )
    card = train(request)
    assert card.classes == ("Pt19", "Pt70")
    assert card.data["source"] == "corrected labels"
    assert card.data["left_out"]["no class"] > 0
    in_memory = TrainRequest(
        CorrectedImagesSource(tuple(corrected)),
        tmp_path / "memory.safetensors",
        start="scratch",
        epochs=2,
        device="cpu",
    )
    assert train(in_memory).data["training_clusters"] == card.data["training_clusters"]


def test_a_cluster_in_two_tables_counts_once_and_must_have_one_label(corrected, folder, tmp_path):
    """As exports of two days of one project."""
    table = corrected[0][1]
    files = [write_clusters(table, tmp_path / f"{day}.csv") for day in ("monday", "tuesday")]
    ((_, once),), ((_, twice),) = (
        list(tables_with_images(given, [folder])) for given in (files[:1], files)
    )
    assert len(once) == len(twice) == (table["label_corrected"] != "").sum()
    other = table.assign(label_corrected=table["label_corrected"].replace({"Pt19": "Pt70"}))
    write_clusters(settle_labels(other), files[1])
    with pytest.raises(AtomicityError, match="different labels, such as Pt70"):
        list(tables_with_images(files, [folder]))


def test_corrections_that_do_not_suffice_say_what_is_missing(corrected):
    with pytest.raises(AtomicityError, match="two classes are needed, not of 1"):
        from_corrections(corrected[:2])
    with pytest.raises(AtomicityError, match="can be held out: Pt19"):
        from_corrections(corrected[1:])
    with pytest.raises(AtomicityError, match="no corrected clusters"):
        from_corrections([])


def test_an_image_of_a_table_that_is_not_there_is_named(corrected, folder, tmp_path):
    table = corrected[0][1].assign(image="gone.tif")
    source = CorrectionsSource((write_clusters(table, tmp_path / "t.csv"),), (folder,))
    with pytest.raises(ReadError, match=r"gone\.tif: no file"):
        train(TrainRequest(source, tmp_path / "x.safetensors", start="scratch"))


# ---- simulation
def test_a_model_of_any_classes_from_simulation(tmp_path, library, monkeypatch):
    many = [i for i in library for _ in range(8)]
    monkeypatch.setattr(prepared_sets, "library_of", lambda *a: many)
    monkeypatch.setattr(prepared_sets, "from_simulation", from_small_fields)
    monkeypatch.setattr(out_of_distribution, "STEPS", 100)
    source = SimulationSource(("Pt70", "Pt19"), fields=12, isomers=16)
    request = TrainRequest(
        source, tmp_path / "s.safetensors", start="scratch", epochs=2, device="cpu"
    )
    card = train(request)
    assert card.classes == ("Pt19", "Pt70")
    assert card.data["source"] == "napari_atomicity.simulation"
    assert card.scores["test"]["clusters"] > 10
    assert card.data["left_out"]["border"] > 0
    json.dumps(card.to_dict())
    _, tensors = read_model(request.out)
    assert "outside.axes" in tensors  # it has seen what is none of its classes


def from_small_fields(*arguments, **named):
    """Fields that take little time; those of aggregates and atoms hold enough to learn from."""
    *others, draw = arguments
    return from_simulation(*others, draw=partial(small_field, draw), **named)


def small_field(draw, classes, rng):
    settings = draw(classes, rng)
    size = 384 if draw is random_settings else 768
    return replace(settings, shape_px=(size, size), pixel_size_nm=0.05, clusters_per_nm2=0.05)


@pytest.mark.parametrize(
    ("classes", "isomers", "words"),
    [
        (("Pt19",), 20, "at least two different classes"),
        (("Pt19", "Pt19"), 20, "at least two different classes"),
        (("Pt19", "Xx30"), 20, "names no cluster"),
        (("Pt19", "Pt30"), 5, "5 isomers can't be divided"),
    ],
)
def test_what_cannot_be_simulated_is_refused_at_once(tmp_path, classes, isomers, words):
    source = SimulationSource(classes, isomers=isomers)
    with pytest.raises(AtomicityError, match=words):
        train(TrainRequest(source, tmp_path / "x.safetensors"))
    assert not list(tmp_path.iterdir())


# ---- the command line
HERE = str(Path(__file__).parent)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give one of --data, --simulate and --corrections"),
        (["--data", HERE, "--simulate", "Au20,Au55"], "give one of"),
        (["--data", HERE, "--fields", "20"], "--fields requires --simulate"),
        (["--data", HERE, "--images", HERE], "--images requires --corrections"),
        (["--corrections", __file__], "--corrections requires --images"),
        (["--simulate", "Au20"], "at least two different classes"),
        (["--data", HERE, "--channels", "raw,raw"], "channels are raw,LCN"),
        (["--data", HERE, "--start", "nowhere"], "there is no model 'nowhere'"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(tmp_path, arguments, words):
    out = tmp_path / "m.safetensors"
    result = CliRunner().invoke(app, ["train", "--out", str(out), *arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())


def test_the_command_tells_how_good_the_model_is_and_what_was_left_out(folder, tmp_path):
    out = tmp_path / "m.safetensors"
    arguments = ["--data", str(folder), "--out", str(out), "--start", "scratch", "--epochs", "2"]
    result = CliRunner().invoke(app, ["train", *arguments, "--device", "cpu", "--json"])
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed["model_id"] == read_model(out)[0].model_id
    # The same words and figures as in the window: losses of an epoch, accuracy of the whole model.
    card, history = read_model(out)[0], printed["training"]["history"]
    epochs = [line for line in result.stderr.splitlines() if line.startswith("epoch")]
    assert epochs == [describe_training(history[: n + 1]) for n in range(2)]
    assert "accuracy" not in "".join(epochs).lower()
    assert describe_accuracy(card) in result.stderr
    left_out = printed["data"]["left_out"]
    assert f"left out: {left_out['border']} border" in result.stderr


# ---- pieces
def test_patches_are_kept_exactly(tmp_path, folder):
    part, _ = from_folder(folder, PatchSettings(size_px=24))
    save_patches(tmp_path / "p.safetensors", part, "key")
    again = load_patches(tmp_path / "p.safetensors", "key")
    pd.testing.assert_frame_equal(
        again.table, part.table, check_dtype=False, check_column_type=False
    )
    np.testing.assert_array_equal(again.patches["LCN"], part.patches["LCN"])
    assert again.left_out == part.left_out
    assert load_patches(tmp_path / "p.safetensors", "other") is None


def test_other_conditions_add_noise_and_blur_but_no_contrast():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 24, 24, generator=generator)
    out = augmented({"raw": 3 * x, "LCN": x}, 0.0, generator, conditions=1.0)
    ratio = out["LCN"].std(dim=(1, 2)) / x.std(dim=(1, 2))
    torch.testing.assert_close(ratio, torch.ones(200), atol=1e-4, rtol=0)
    offset = out["raw"].mean(dim=(1, 2))
    assert float(offset.std()) == pytest.approx(0.5 * 3, rel=0.2)
    assert noise_of(out["raw"]).std() > 5 * noise_of(3 * x).std()
    assert float(noise_of(x).mean()) == pytest.approx(1, rel=0.05)


def test_every_patch_is_blurred_by_its_own_width():
    x = torch.zeros(2, 15, 15)
    x[:, 7, 7] = 1
    out = blurred(x, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(out[0], x[0])
    at = torch.arange(15.0) - 7
    assert float(out[1].sum()) == pytest.approx(1, abs=1e-5)
    assert float((out[1].sum(dim=0) * at**2).sum()) == pytest.approx(1, abs=0.05)


def test_a_neighbour_is_put_beside_the_cluster_and_not_onto_it():
    generator = torch.Generator().manual_seed(0)
    size, n, radius = 40, 60, 5.0
    at = torch.arange(size) - (size - 1) / 2
    away = torch.hypot(at[:, None], at[None, :])
    disc = (away < radius).float().expand(n, size, size)
    out = augmented({"raw": disc, "LCN": disc}, 0.0, generator, 0.0, 0.5, torch.full((n,), radius))
    added = out["raw"] - disc
    with_one = added.sum(dim=(1, 2)) > 1
    assert 0.3 < float(with_one.float().mean()) < 0.7
    area = float(disc[0].sum())
    assert float(added[with_one].sum(dim=(1, 2)).mean()) == pytest.approx(area, rel=0.1)
    assert float(added[:, away < radius - 1].abs().max()) < 0.05
    empty = disc == 0  # where both lie, intensities add up and contrast is the neighbour's
    torch.testing.assert_close(out["LCN"][empty], out["raw"][empty])
    assert float(out["LCN"].max()) < 1.01 < float(out["raw"].max())
