"""The mends for NumPy, SciPy and ray: each works, and each is still needed."""

import importlib.metadata
import importlib.util
import textwrap

import numpy as np
import pytest
from packaging.version import Version
from support.mending import can_go, python, run_without

from recbole_metarec.plugin import mends

# --- NumPy and SciPy ----------------------------------------------------------------------------------------------


def test_numpy_names_are_added_and_never_replaced():
    own_bool = np.bool
    mends.numpy_aliases()
    assert np.bool is own_bool
    assert np.zeros(1, dtype=np.float).dtype == np.float64
    assert np.zeros(1, dtype=np.long).dtype.kind == "i"
    assert np.array([1]).astype(np.str).dtype.kind == "U"


def test_config_leaves_numpys_own_names_alone():
    from recbole.config import Config

    before = np.bool, np.long
    Config(model="Pop", dataset="ml-100k")
    assert (np.bool, np.long) == before


@pytest.mark.skipif(Version(np.__version__) < Version("1.24"), reason="NumPy < 1.24 has the old names itself")
def test_numpy_aliases_still_needed():
    out = python(
        "import torch; from recbole.data.interaction import Interaction; Interaction({'a': [1.0]})",
        without="numpy_aliases",
    )
    assert "has no attribute 'float'" in out, can_go("numpy_aliases")


@pytest.mark.skipif(Version(np.__version__) < Version("2"), reason="NumPy 1 has np.float_")
def test_config_numpy_aliases_still_needed():
    out = python(
        "from recbole.config import Config; Config(model='Pop', dataset='ml-100k')", without="config_numpy_aliases"
    )
    assert "`np.float_` was removed" in out, can_go("config_numpy_aliases")


def test_dok_update_fills_a_matrix():
    from scipy.sparse import dok_matrix

    matrix = dok_matrix((2, 3))
    matrix._update({(0, 2): 1.0, (1, 0): 2.0})
    assert matrix.toarray().tolist() == [[0, 0, 1], [2, 0, 0]]


@pytest.mark.skipif(Version(importlib.metadata.version("scipy")) < Version("1.13"), reason="SciPy < 1.13 has _update")
def test_scipy_dok_update_still_needed():
    out = run_without("scipy_dok_update", "LightGCN")
    assert "has no attribute '_update'" in out, can_go("scipy_dok_update")


# --- ray ----------------------------------------------------------------------------------------------------------


def test_recbole_imports_and_numpy_is_left_as_found():
    out = python(
        """
        import recbole_metarec, numpy as np
        from recbole.trainer import HyperTuning
        from recbole.quick_start import objective_function
        print("bool8" in vars(np), "imported")
        """,
        forked=False,
    )
    assert "False imported" in out


@pytest.mark.skipif(Version(np.__version__) < Version("2"), reason="with NumPy 1 and setuptools < 81 ray imports")
def test_ray_for_recbole_still_needed():
    out = python("from recbole.quick_start import run_recbole")
    assert "Error" in out and "ray" in out, can_go("ray_for_recbole")


HIDE = """
import importlib.abc, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {name!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hide())
"""


def test_without_ray_recbole_starts_and_tuning_says_why_not():
    out = python(
        HIDE.format(name="ray")
        + textwrap.dedent(
            """
            import recbole_metarec
            from recbole.quick_start import quick_start
            quick_start.tune.report(ndcg=1.0)
            print("ray left behind:", "ray" in sys.modules)
            quick_start.tune.run()
            """
        )
    )
    assert "ray left behind: False" in out
    assert "AttributeError: run: ray could not be imported" in out and "hyperopt" in out


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray (Python 3.11 or older)")
def test_without_pkg_resources_ray_is_imported_all_the_same():
    out = python(
        """
        import importlib.util, sys
        real = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "pkg_resources" else real(name, *rest)
        import recbole_metarec
        from recbole.quick_start import quick_start
        print(sys.modules["ray.tune"].__file__, "pkg_resources" in sys.modules)
        """
    )
    assert "__init__.py False" in out
