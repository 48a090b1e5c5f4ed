"""Where the files lie that this project trained: data/adapter in a checkout, beside the code when
installed. Their recipes and model card lie there, too."""

from pathlib import Path


def trained(name: str) -> Path:
    """The path of a trained file; it may not exist."""
    here = Path(__file__).parent
    installed = here / "adapter_data" / name
    return installed if installed.exists() else here.parent / "data" / "adapter" / name
