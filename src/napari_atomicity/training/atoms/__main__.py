"""``python -m napari_atomicity.training.atoms``: the shipped model again."""

from .shipped import main

raise SystemExit(main())
