"""Where the YAML files live that ship with the package."""

from pathlib import Path

DEFAULT_DATA_PATH = "dataset/"  # RecBole's own default, relative to the current folder


def resource_dir(name: str) -> Path:
    """Folder of shipped files, ``properties`` or ``dataset_configs``.

    A wheel carries them inside the package; a clone and an editable install have them beside it.
    """
    package = Path(__file__).resolve().parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
