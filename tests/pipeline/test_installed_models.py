"""Models of others are checked and copied into the user's folder."""

import json

import pytest
from typer.testing import CliRunner

from napari_atomicity.cli import app
from napari_atomicity.core.errors import ModelError
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.models.files import available_models, find_model, read_model
from napari_atomicity.pipeline.installed_models import add_models


def atomicity(*arguments):
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The user's folder of models, which does not exist yet."""
    monkeypatch.setenv("ATOMICITY_MODELS", str(tmp_path / "mine"))
    return tmp_path / "mine"


@pytest.fixture
def theirs(tmp_path, tiny_model):
    """A folder with a model that has a licence and a DOI."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "download.safetensors").write_bytes(tiny_model.read_bytes())
    card = json.loads(tiny_model.with_suffix(".json").read_text())
    card |= {"license": "CC-BY-4.0", "doi": "10.5281/zenodo.1"}
    (folder / "download.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize("name", ["", "download.safetensors", "download.json"])
def test_a_model_is_added_under_the_name_of_its_card(mine, theirs, name):
    (card,) = add_models(theirs / name)
    assert (card.license, card.doi) == ("CC-BY-4.0", "10.5281/zenodo.1")
    assert "tiny" in available_models(ModelCard)
    found, tensors = read_model(find_model("tiny"))
    assert found == card and tensors


def test_damaged_weights_are_refused_and_nothing_is_copied(mine, theirs):
    weights = theirs / "download.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="not those that the card describes"):
        add_models(theirs)
    assert not mine.exists()


@pytest.mark.parametrize(
    "name",
    ["../out", "pt-dual", "default", "", "PT-DUAL", "con", "Aux.1", "-rf", "a?b", "\x1b[31m"],
)
def test_names_that_lead_elsewhere_are_refused(mine, theirs, name):
    card = json.loads((theirs / "download.json").read_text())
    (theirs / "download.json").write_text(json.dumps(card | {"name": name}))
    with pytest.raises(ModelError):
        add_models(theirs)
    assert not mine.exists()


def test_another_model_of_the_same_name_is_replaced_only_if_asked(mine, theirs):
    add_models(theirs)
    with pytest.raises(ModelError, match="overwrite"):
        add_models(theirs)
    assert add_models(theirs, overwrite=True)


def test_a_folder_without_models_is_an_error(mine, tmp_path):
    with pytest.raises(ModelError, match="no model"):
        add_models(tmp_path)


def test_a_doi_is_checked(mine, theirs):
    card = json.loads((theirs / "download.json").read_text())
    (theirs / "download.json").write_text(json.dumps(card | {"doi": "see our page"}))
    with pytest.raises(ModelError, match="doi"):
        add_models(theirs)


def test_the_command_adds_and_lists(mine, theirs):
    added = atomicity("models", "add", str(theirs))
    assert added.exit_code == 0 and "CC-BY-4.0" in added.stdout
    assert "10.5281/zenodo.1" in atomicity("models").stdout
    assert atomicity("models", "add", str(theirs / "nothing")).exit_code == 2
    assert any(c["name"] == "tiny" for c in json.loads(atomicity("models", "--json").stdout))


def test_texts_of_a_card_are_printed_without_control_characters_and_in_part(mine, theirs):
    text = "\x1b[2Jgone\x9b\n" + "long " * 1_000_000
    card = json.loads((theirs / "download.json").read_text()) | {"description": text}
    (theirs / "download.json").write_text(json.dumps(card))
    for command in (("models", "add", str(theirs)), ("models",)):
        printed = atomicity(*command).stdout
        assert "gone" in printed and not {"\x1b", "\x9b"} & set(printed)
        assert len(printed) < 10_000
    (stored,) = (c for c in json.loads(atomicity("models", "--json").stdout) if c["name"] == "tiny")
    assert stored["description"] == text
