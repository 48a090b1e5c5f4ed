"""Files that are on disk when a call returns, and get their names all at once."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Force a file, or a folder's list of names, to disk. Errors: OSError."""
    if os.name == "nt" and path.is_dir():
        return  # Windows can't open a folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(written: Path, path: Path) -> None:
    """Give a written file its name, on disk, too. Errors: OSError."""
    written.replace(path)
    sync(path.parent)
