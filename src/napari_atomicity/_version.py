"""The version of this package; that of a development version has its commit."""

from pathlib import Path

NUMBER = "0.3.0.dev0"
"""Version by Semantic Versioning; ``.dev0`` until it is released."""
ARCHIVED = "$Format:%H$"
"""The commit in an archive of the source, where Git puts it (``.gitattributes``)."""


def commit_of(checkout: Path) -> str:
    """Return the first nine digits of the commit of a Git checkout; "" if it is none.

    The files are read, since to run Git takes longer than to import this package.
    """
    try:
        git = checkout / ".git"
        if git.is_file():  # a worktree
            git = checkout / _read(git).partition("gitdir: ")[2]
        head = _read(git / "HEAD")
        name = head.partition("ref: ")[2]
        if not name:
            return head[:9]
        common = git / "commondir"
        shared = git / _read(common) if common.is_file() else git
        for folder in (git, shared):
            if (folder / name).is_file():
                return _read(folder / name)[:9]
        lines = _read(shared / "packed-refs").splitlines()
        return next((line[:9] for line in lines if line.endswith(f" {name}")), "")
    except OSError:
        return ""


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def find_version() -> str:
    """Return the version with the commit of the checkout, or the one that was installed."""
    if ".dev" not in NUMBER:
        return NUMBER
    archived = "" if ARCHIVED.startswith("$") else ARCHIVED[:9]
    commit = archived or commit_of(Path(__file__).parents[2])
    if commit:
        return f"{NUMBER}+g{commit}"
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        installed = version("napari-atomicity")
    except PackageNotFoundError:
        return NUMBER
    return installed if installed.startswith(NUMBER) else NUMBER


__version__ = find_version()
