"""Run the command line: ``python -m napari_atomicity.cli``."""

from . import main

if __name__ == "__main__":
    main()
