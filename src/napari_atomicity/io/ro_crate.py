"""Description of a folder of results as an RO-Crate, which repositories of data understand.

References
----------
.. [1] S. Soiland-Reyes et al., "Packaging research artefacts with RO-Crate", Data Science 5,
   97-138 (2022); the specification is https://w3id.org/ro/crate/1.1.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import write_json

METADATA = "ro-crate-metadata.json"
SOFTWARE = "https://github.com/napari-atomicity/napari-atomicity"
_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_LICENSE = {
    "@id": "#license",
    "@type": "CreativeWork",
    "name": "Not chosen yet",
    "description": "Choose a licence before you publish these results, and name it here.",
}
_STATUS = {"done": "CompletedActionStatus", "partly failed": "CompletedActionStatus"}
_PARQUET = {".parquet": "application/vnd.apache.parquet"}


def write_crate(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the description of the results of a run beside them, from its record.

    The record itself is written later, and so has no hash.
    """
    names = [name for name in record["outputs"] if name != METADATA]
    write_json(folder / METADATA, crate(record, [_file(folder, name) for name in names]))


def crate(record: Mapping[str, Any], files: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON-LD document of a run with its files."""
    images = [_image(one) for one in record["images"]]
    model = _model(record["model"])
    about = {"@id": "./"}
    root = {
        **about,
        "@type": "Dataset",
        "name": f"Results of atomicity {record['kind']}".rstrip(),
        "description": f"{record['images_done']} images analysed, {record['images_failed']} "
        "failed. run.json has all settings.",
        "datePublished": record["finished"],
        "license": _reference(_LICENSE),
        "hasPart": _references(files),
        "mentions": [{"@id": "#run"}],
    }
    run = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": " ".join(map(str, record["command"])),
        "startTime": record["started"],
        "endTime": record["finished"],
        "actionStatus": {
            "@id": f"http://schema.org/{_STATUS.get(record['status'], 'FailedActionStatus')}"
        },
        "instrument": {"@id": SOFTWARE},
        "object": _references([*images, *model]),
        "result": _references(files),
    }
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": _SPECIFICATION},
        "about": about,
    }
    software = {
        "@id": SOFTWARE,
        "@type": "SoftwareApplication",
        "name": record["program"],
        "version": record["version"],
        "url": SOFTWARE,
        "license": {"@id": "https://spdx.org/licenses/BSD-3-Clause"},
        "softwareRequirements": [
            f"{name} {version}"
            for name, version in record["environment"]["packages"].items()
            if version
        ],
    }
    graph = [descriptor, root, *files, run, software, *model, *images, _LICENSE]
    return {"@context": f"{_SPECIFICATION}/context", "@graph": graph}


def _file(folder: Path, name: str) -> dict[str, Any]:
    """Describe a file of the folder."""
    path = folder / name
    kind = _PARQUET.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    about = {"@id": name, "@type": "File", "name": path.name}
    about["encodingFormat"] = kind or "application/octet-stream"
    if not path.is_file():
        return about
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return {**about, "contentSize": str(path.stat().st_size), "sha256": sha256}


def _image(image: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an image that was read; it is not part of the folder."""
    properties = {
        "pixel size in nm": image["pixel_size_nm"],
        "session": image["session"] or None,
        **image["instrument"],
    }
    return {
        "@id": f"#image/{image['image']}",
        "@type": "CreativeWork",
        "name": image["image"],
        "sha256": image["sha256"],
        "additionalProperty": [
            {"@type": "PropertyValue", "name": name, "value": value}
            for name, value in properties.items()
            if value is not None
        ],
    }


def _model(model: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Describe the model of a run, if it has one."""
    if model is None:
        return []
    name = str(model.get("model_id", "model"))
    about = {"@id": f"#model/{name}", "@type": "CreativeWork", "name": name}
    return [{**about, "sha256": model.get("sha256"), "keywords": list(model.get("classes", ()))}]


def _references(entities: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [_reference(one) for one in entities]


def _reference(entity: Mapping[str, Any]) -> dict[str, Any]:
    return {"@id": entity["@id"]}
