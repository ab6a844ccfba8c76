"""Valid samples of all kinds: the starting points of the cases."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tifffile

from microscope_files import (
    axis,
    image_axes,
    save_berkeley,
    save_dm,
    save_hspy,
    save_ser,
    save_velox,
    signal,
)
from napari_atomicity.io.tables import write_clusters
from napari_atomicity.simulation.recipes import draw_recipe

OF_0_2 = Path(__file__).parents[1] / "compatibility" / "samples"
SIZE = 32


def make_samples(folder: Path) -> Path:
    """Write the samples, a folder for each kind."""
    for make in (make_images, make_projects, make_models, make_packs, make_settings, make_runs,
                 make_tables):  # fmt: skip
        target = folder / make.__name__.removeprefix("make_")
        target.mkdir(parents=True)
        make(target)
    return folder


def pixels(dtype: str = "u2", shape: tuple[int, ...] = (SIZE, SIZE)) -> np.ndarray:
    """Noise."""
    top = 250 if np.dtype(dtype).itemsize == 1 else 4000
    return np.random.default_rng(3).integers(0, top, shape).astype(dtype)


# ---- images
def make_images(folder: Path) -> None:
    """All formats, in several variants each."""
    for write in (write_tiff, write_plain, write_zarr, write_microscope):
        write(folder)


def write_tiff(folder: Path) -> None:
    """TIFF of several programs, layouts and compressions."""
    calibrated = {"resolution": (25, 25), "metadata": {"unit": "nm"}}
    tags = [(65003, "s", 0, "nm", True), (65004, "s", 0, "nm", True),
            (65009, "d", 1, 0.04, True), (65010, "d", 1, 0.04, True)]  # fmt: skip
    stack = pixels(shape=(3, SIZE, SIZE))
    variants: dict[str, tuple[np.ndarray, dict]] = {
        "imagej": (pixels(), {"imagej": True, **calibrated}),
        "imagej_stack": (stack, {"imagej": True, **calibrated}),
        "tiled_zlib": (pixels("f4"), {"tile": (16, 16), "compression": "zlib"}),
        "lzw_predictor": (pixels(), {"compression": "lzw", "predictor": True, "rowsperstrip": 4}),
        "zstd_tiles": (pixels(), {"tile": (16, 16), "compression": "zstd"}),
        "packbits": (pixels("u1"), {"compression": "packbits"}),
        "jpeg": (pixels("u1", (64, 64)), {"compression": "jpeg"}),
        "big_stack": (stack, {"bigtiff": True, "photometric": "minisblack"}),
        "big_endian": (pixels("f4"), {"byteorder": ">"}),
        "ome": (pixels(), {"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.04,
                                                     "PhysicalSizeXUnit": "nm"}}),
        "gatan": (pixels("f4"), {"extratags": tags}),
        "miniswhite": (pixels("u1"), {"photometric": "miniswhite"}),
    }  # fmt: skip
    for name, (data, options) in variants.items():
        tifffile.imwrite(folder / f"{name}.tif", data, **options)
    with tifffile.TiffWriter(folder / "pyramid.tif") as tiff:
        tiff.write(pixels(), subifds=1, tile=(16, 16))
        tiff.write(pixels()[::2, ::2], subfiletype=1, tile=(16, 16))


def write_plain(folder: Path) -> None:
    """PNG, NumPy and MRC."""
    import imagecodecs
    import mrcfile

    alpha = np.stack([pixels("u1"), np.full((SIZE, SIZE), 255, "u1")], axis=-1)
    for name, data in {"grey8": pixels("u1"), "grey16": pixels(), "alpha": alpha}.items():
        (folder / f"{name}.png").write_bytes(imagecodecs.png_encode(data))
    for name, data in {"u2": pixels(), "stack": pixels(">f8", (2, SIZE, SIZE)),
                       "fortran": np.asfortranarray(pixels("f4"))}.items():  # fmt: skip
        np.save(folder / f"{name}.npy", data)
    for name, data in {"f4.mrc": pixels("f4"), "stack.mrcs": pixels("i2", (2, SIZE, SIZE))}.items():
        with mrcfile.new(folder / name, data=data) as file:
            file.voxel_size = 0.4


def write_zarr(folder: Path) -> None:
    """Arrays of both versions of zarr, and groups of both versions of OME-Zarr."""
    import zarr

    for name, options in {
        "v3": {"zarr_format": 3},
        "v2": {"zarr_format": 2},
        "sharded": {"zarr_format": 3, "shards": (32, 32)},
    }.items():
        zarr.create_array(folder / f"{name}.zarr", data=pixels(), chunks=(16, 16), **options)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [0.04, 0.04]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    for version, zarr_format in (("0.4", 2), ("0.5", 3)):
        group = zarr.open_group(
            folder / f"ome_{version[-1]}.zarr", mode="w", zarr_format=zarr_format
        )
        group.create_array("0", data=pixels(), chunks=(16, 16))
        multiscales = [{"version": version, "axes": axes, "datasets": levels}]
        image = {"multiscales": multiscales}
        group.attrs.update(image if version == "0.4" else {"ome": {"version": version, **image}})


def write_microscope(folder: Path) -> None:
    """Formats of makers of microscopes, by rosettasciio or by our own small writers."""
    from rsciio.emd import file_writer as write_emd
    from rsciio.pantarhei import file_writer as write_prz

    data, axes = pixels("f4"), image_axes((SIZE, SIZE))
    save_hspy(folder / "a.hspy", data, axes, instrument={"beam_energy": 200.0})
    frames = [axis("time", 2, 1.0, "s", navigate=True), *axes]
    save_hspy(folder / "stack.hspy", pixels("f4", (2, SIZE, SIZE)), frames)
    velox = {"HAADF": (pixels(shape=(1, SIZE, SIZE)), 4e-11, "m")}
    save_velox(folder / "velox.emd", velox)
    save_berkeley(folder / "berkeley.emd", data, "[n_m]", 0.04)
    write_emd(str(folder / "ncem.emd"), signal(data, axes))
    write_prz(str(folder / "a.prz"), signal(data, axes))
    for version in (3, 4):
        save_dm(folder / f"a.dm{version}", data, version)
    save_ser(folder / "a_1.ser", data)


# ---- other kinds: what version 0.2 wrote
def make_projects(folder: Path) -> None:
    """A project with its images."""
    shutil.copytree(OF_0_2 / "project", folder, dirs_exist_ok=True)


def make_models(folder: Path) -> None:
    """A model of clusters and one of atoms."""
    shutil.copytree(OF_0_2 / "models", folder, dirs_exist_ok=True)


def make_packs(folder: Path) -> None:
    """A filled pack as an archive and one as a folder, and the project they belong to."""
    shutil.copytree(OF_0_2 / "packs" / "bo", folder / "bo")
    with (
        zipfile.ZipFile(OF_0_2 / "packs" / "ada.zip") as archive,
        zipfile.ZipFile(folder / "cleo.zip", "w") as renamed,
    ):
        for name in archive.namelist():  # the project has marks of Ada
            raw = b"Cleo" if name.endswith("annotator.txt") else archive.read(name)
            renamed.writestr(name, raw)
    make_projects(folder / "project")


def make_settings(folder: Path) -> None:
    """The settings of simulated fields."""
    recipe = draw_recipe(3)
    fields = {name: {"seed": seed, **asdict(s)} for name, (seed, s) in recipe.fields.items()}
    of_library = {"seed": recipe.seed, "isomers_per_class": recipe.isomers_per_class}
    content = {"version": "0.2", "classes": recipe.classes, **of_library, "fields": fields}
    (folder / "settings.json").write_text(json.dumps(content))


def make_runs(folder: Path) -> None:
    """The folders of a run, a batch and a watched folder; the run has two sessions."""
    for name in ("analyse", "batch", "watch"):
        shutil.copytree(OF_0_2 / name, folder / name)
    path = folder / "analyse" / "run.json"
    record = json.loads(path.read_text("utf-8"))
    scale = {"intensity_per_atom": 3.0, "intensity_per_atom_low": 2.8,
             "intensity_per_atom_high": 3.3}  # fmt: skip
    record["sessions"] = [{"session": name, **scale} for name in ("monday", "tuesday")]
    path.write_text(json.dumps(record))


def make_tables(folder: Path) -> None:
    """Tables of clusters, atoms, corrections and ratios in all formats."""
    from napari_atomicity.io.tables import read_clusters

    for source in (
        "analyse/clusters.csv", "analyse/clusters.parquet", "corrections/corrected.csv",
        "corrections/corrected.xlsx", "reference.csv", "atoms/found/atoms.csv",
    ):  # fmt: skip
        shutil.copy(OF_0_2 / source, folder)
    write_clusters(read_clusters(folder / "clusters.csv"), folder / "clusters.xlsx")
