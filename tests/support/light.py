"""For scripts of the tests that start many processes and train nothing."""

import re
import sys
import types
from pathlib import Path


def without_training() -> None:
    """Lets the package's modules be imported without what its ``__init__`` imports and without torch: they take
    seconds."""
    package = types.ModuleType("recbole_metarec")
    package.__path__ = [str(Path(__file__).resolve().parents[2] / "recbole_metarec")]
    package.__version__ = re.search(r'__version__ = "(.*)"', Path(package.__path__[0], "__init__.py").read_text())[1]
    sys.modules["recbole_metarec"] = package
    sys.modules["torch"] = types.ModuleType("torch")
    sys.modules["torch"].device = object
