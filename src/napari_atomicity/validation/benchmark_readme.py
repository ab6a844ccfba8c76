"""Description that is written into the folder of a benchmark."""

from __future__ import annotations

from .._version import __version__
from ..simulation.sessions import KINDS, OTHER_SIZES
from .benchmark_images import (
    CLASSES,
    CLIPPED_PERCENT,
    CROP_PX,
    CROPS_PER_IMAGE,
    LONE_ATOMS_PER_NM2,
    N_IMAGES,
)

_TEXT = """# Benchmark of cluster atomicity in HAADF-STEM images

Simulated images of platinum clusters with known numbers of atoms on amorphous carbon, in sessions \
of images that are recorded alike. The task: find the clusters and give each a class ({classes}).

Written by `atomicity benchmark` of napari-atomicity {version}, seed {seed}, rounds {rounds}, \
{n_images} images. SHA-256 of the data: `{sha256}`.

## Licence

BSD 3-Clause, as the program that writes it. Please state the SHA-256 and the version when you \
publish scores, and cite napari-atomicity (CITATION.cff in its repository).

## Files

| file | content |
|---|---|
| `images/SESSION/*.tif` | grey images (TIFF, uncompressed) with the pixel size in nm (ImageJ); \
intensities in counts, 16 bit, or 8 bit in the sessions of that form |
| `images.csv` | a row for each image |
| `truth.csv` | a row for each true cluster |
| `manifest.json` | SHA-256 of each file, settings, versions |

`images.csv`: `image`; `file`, its path; `session`; `kind` and `form` of the session; `sample`; \
`px_nm`, the pixel size in nm; `n_clusters`; `nominal_Pt19` ..., the nominal fractions of the \
sample, from which the drawn clusters differ.

`truth.csv`: `image`; `x_px` and `y_px`, column and row of the centre, where the centre of the \
top-left pixel is 0, 0; `label`, such as `Pt19`, or `aggregate` for two overlapping clusters; \
`n_atoms`; `diameter_nm`, in projection; `border`, 1 if the border of the image cuts the cluster; \
`touching`, 1 if it touches a neighbour; `structure` before relaxation.

## Sessions

Each session has {sessions} images before it is cropped. Its conditions are drawn once. Between \
its images, gain, dose, focus and support differ a little.

{kinds}

The forms are `whole`; `8 bits`: {clipped} % of the pixels clipped at both ends; `crops`: {crops} \
crops of {crop} pixels around clusters of each image; `lone atoms`: simulated again with {lone} \
single atoms per nm² between the clusters. The classes {other} are in `other sizes` only.

## Rules

Do not train, calibrate or choose settings on these images. `truth.csv`, the samples and the \
nominal fractions are for scoring only. Pixel sizes, and which images form a session, may be used.

## Score

```
pip install napari-atomicity
atomicity benchmark --score predictions.csv --data FOLDER
```

`predictions.csv` has a row for each found cluster: `image`, `x_px`, `y_px`, `label` (a class, \
`unknown` or `aggregate`), and optionally the probabilities `p_Pt19` ... of the classes, and \
`n_atoms`, a number of atoms. A predicted cluster matches a true one within half of its diameter, \
at least 0.35 nm, one to one. Clusters that the border cuts are not scored.
"""


def readme(seed: int, rounds: int, n_images: int, sha256: str) -> str:
    """Return the description of a benchmark as Markdown."""
    return _TEXT.format(
        classes=", ".join(CLASSES),
        other=" and ".join(OTHER_SIZES),
        version=__version__,
        seed=seed,
        rounds=rounds,
        n_images=n_images,
        sha256=sha256,
        sessions=N_IMAGES,
        kinds="\n".join(f"- `{kind}`: {samples}" for kind, samples in KINDS.items()),
        clipped=CLIPPED_PERCENT,
        crops=CROPS_PER_IMAGE,
        crop=CROP_PX,
        lone=LONE_ATOMS_PER_NM2,
    )
