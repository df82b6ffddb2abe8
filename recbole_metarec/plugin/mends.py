"""Mends RecBole 1.2.1 for today's NumPy, SciPy, PyTorch, setuptools and Python.

One mend is one function; its decorator names RecBole's module and when the mend is made: before, after or around the
execution of that module. Its docstring names RecBole's fault, since when it shows and when the mend can go.
In ``tests/plugin``, ``test_mends.py``, ``test_library_mends.py`` and ``test_flows.py`` test that each works and that
each is still needed.

Those of checkpoints are in :mod:`.checkpoint_mends`, those of evaluation in :mod:`.evaluation_mends`.
"""

import ast
import contextlib
import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import signal
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from recbole_metarec.errors import TrainingError
from recbole_metarec.plugin import on_import
from recbole_metarec.plugin.on_import import after, around, before

_MENDS: dict[Callable, str] = {}  # a mend -> the module of RecBole that it mends


@dataclass(frozen=True)
class Mend:
    """One mend of RecBole: the function's name, what it does and why, and whether its module has been imported."""

    name: str
    reason: str
    in_force: bool


def mends() -> tuple[Mend, ...]:
    """All mends, in the order in which they were read."""
    return tuple(
        Mend(function.__name__, _first_paragraph(function), module in on_import.executed)
        for function, module in _MENDS.items()
    )


def _first_paragraph(function) -> str:
    text = (function.__doc__ or "").split("\n\n")[0]
    return " ".join(re.sub(r":\w+:(?=`)|`", "", text).split())


def mend(hook: Callable, module: str):
    """Makes a function a mend. hook: on_import's ``before``, ``around`` or ``after``, to be called with ``module``."""

    def add(function):
        _MENDS[function] = module
        return hook(module)(function)

    return add


# --- NumPy and SciPy ---------------------------------------------------------------------------------------------


@mend(before, "recbole")
def numpy_aliases() -> None:
    """Give NumPy the old scalar names that RecBole and models written for it use, where NumPy has none of its own.

    RecBole writes ``np.float``, ``np.long``, ``np.str`` (metrics, Interaction, layers, hyper_tuning), gone since
    NumPy 1.24 (RecBole #1604). NumPy's own names (``np.bool`` and ``np.long`` of NumPy 2) are left alone.
    Can go when RecBole uses the names of NumPy 2.
    """
    old_names = {
        "bool": np.bool_,
        "int": np.int_,
        "float": np.float64,
        "complex": np.complex128,
        "object": np.object_,
        "str": np.str_,
        "long": np.int_,
        "unicode": np.str_,
    }
    for name, scalar in old_names.items():
        if name not in vars(np):
            setattr(np, name, scalar)


@mend(after, "recbole.config.configurator")
def config_numpy_aliases(configurator) -> None:
    """Replace ``Config.compatibility_settings``, which every RecBole run calls, by :func:`numpy_aliases`.

    It reads ``np.float_``, ``np.complex_`` and ``np.unicode_``, gone since NumPy 2.0, and overwrites NumPy 2's own
    ``np.bool`` and ``np.long``. Can go with the RecBole release that does neither (proposed in RecBole #2203).
    """
    configurator.Config.compatibility_settings = lambda self: numpy_aliases()


@mend(after, "recbole.config.configurator")
def config_without_eval(configurator) -> None:
    """Read the texts of RecBole's ``config_dict`` and command line as Python literals, which it evaluates as programs.

    Whatever reaches a config could else run any code, ``--dataset="__import__('os').system('...')"``. Numbers, lists,
    dicts, ``None`` and ``True`` mean what they did; an expression such as ``2*64`` stays text. Can go when RecBole
    calls ``eval`` no more.
    """
    configurator.Config._convert_config_dict = lambda self, values: _with_literals(values)


def _with_literals(values: dict) -> dict:
    for key, text in values.items():
        if isinstance(text, str):
            values[key] = _literal(text)
    return values


def _literal(text: str):
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.lower(), text)
    return value if value is None or isinstance(value, (str, int, float, list, tuple, dict)) else text


@mend(before, "recbole")
def scipy_dok_update() -> None:
    """Give ``dok_matrix`` back its ``_update`` (dict of (row, column) to value, unchecked).

    LightGCN, NGCF, SpectralCF, GCMC, NCL, KGIN and MCCLK fill their graph by it; gone since SciPy 1.13
    (RecBole #2034). Can go when RecBole builds these graphs from row and column arrays.
    """
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda self, entries: self._dict.update(entries)


# --- PyTorch -----------------------------------------------------------------------------------------------------


@mend(around, "recbole.model.sequential_recommender.sine")
def anomaly_detection_off(_):
    """RecBole's SINE module turns autograd's anomaly detection on for the whole process as soon as it is imported.

    Importing RecBole's sequential models imports it, and from then on every backward pass of every model checks each
    gradient for NaN and records a traceback for each operation. Shows with any PyTorch. Can go when
    ``recbole/model/sequential_recommender/sine.py`` no longer calls ``set_detect_anomaly``.
    """
    enabled = torch.is_anomaly_enabled()
    yield
    torch.autograd.set_detect_anomaly(enabled)


# --- ray ---------------------------------------------------------------------------------------------------------


@mend(around, "recbole.quick_start.quick_start")
def ray_for_recbole(_):
    """Let ``from ray import tune``, which RecBole does at import, succeed; leave NumPy and sys.modules as found.

    RecBole wants ray <= 2.6.3, which reads ``np.bool8`` (gone in NumPy 2.0, RecBole #2215) and ``pkg_resources``
    (gone in setuptools 81), and has no wheel for Python 3.12 and later. A ray that cannot be imported even so is
    replaced by :func:`ray_stand_in`. It also makes SIGTERM end the process by an exit of its own, with a traceback and
    code 15; that is taken back. Can go when RecBole imports ray only where it tunes with it.
    """
    planted, at_sigterm = [], signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings(), _numpy_bool8(), _pkg_resources():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            importlib.import_module("ray.tune")
    except Exception as problem:  # whatever keeps ray from being imported, RecBole needs it for tuning only
        for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
            del sys.modules[name]
        planted = ray_stand_in(problem)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is not at_sigterm:
            signal.signal(signal.SIGTERM, at_sigterm)
        # Another library that asks whether ray is installed must get the true answer.
        for name in planted:
            sys.modules.pop(name, None)


def ray_stand_in(problem: BaseException) -> list[str]:
    """Plant modules ``ray`` and ``ray.tune``; every use raises AttributeError with the reason that ray is missing.

    ``tune.report`` alone does nothing, as outside a ray session: RecBole's objective_function always calls it.
    Returns the names planted in sys.modules.
    """

    def missing(name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"{name}: ray could not be imported ({type(problem).__name__}: {problem}); RecBole 1.2.1 tunes with "
            "ray <= 2.6.3, which needs Python 3.11 or older. Use RecBole's HyperTuning with hyperopt instead."
        )

    ray, tune = types.ModuleType("ray"), types.ModuleType("ray.tune")
    for module in (ray, tune):
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        module.__getattr__ = missing
    ray.__path__ = []
    ray.tune = tune
    tune.report = lambda *args, **metrics: None
    sys.modules.update({"ray": ray, "ray.tune": tune})
    return ["ray", "ray.tune"]


@contextlib.contextmanager
def _numpy_bool8():
    """``np.bool8`` while ray's TensorBoard logger makes its tuple of types from it."""
    if "bool8" in vars(np):
        yield
        return
    np.bool8 = np.bool_
    try:
        yield
    finally:
        del np.bool8


@contextlib.contextmanager
def _pkg_resources():
    """The few names that ray takes from ``pkg_resources``, where setuptools no longer has it."""
    if importlib.util.find_spec("pkg_resources") is not None:
        yield
        return
    import packaging.version

    module = types.ModuleType("pkg_resources")
    module.__path__ = []
    module.packaging = packaging
    module.parse_version = packaging.version.parse
    module.get_distribution = importlib.metadata.distribution
    module.require = lambda *requirements: [importlib.metadata.distribution(name) for name in requirements]
    module.DistributionNotFound = importlib.metadata.PackageNotFoundError
    vendored = {
        "pkg_resources": module,
        "pkg_resources._vendor": types.ModuleType("pkg_resources._vendor"),
        "pkg_resources._vendor.packaging": packaging,
        "pkg_resources._vendor.packaging.version": packaging.version,
    }
    sys.modules.update(vendored)
    try:
        yield
    finally:
        for name in vendored:
            sys.modules.pop(name, None)


@mend(after, "recbole.quick_start.quick_start")
def reports_inside_a_session(quick_start) -> None:
    """Keep RecBole's ``objective_function`` from reporting to ray where ray does not tune.

    It calls ``tune.report`` always; with hyperopt ray then logs a warning and a stack for each trial, that no session
    was detected. Can go when RecBole reports only inside of one.
    """
    tune = quick_start.tune
    if tune.__name__ not in sys.modules:  # of a stand-in, which has gone by now: nothing is reported
        return
    session = importlib.import_module("ray.tune.trainable.session")

    def report(*args, **metrics):
        if session._session is not None:
            tune.report(*args, **metrics)

    quick_start.tune = types.SimpleNamespace(report=report)


# --- hyperopt ------------------------------------------------------------------------------------------------------


@mend(after, "recbole.trainer.hyper_tuning")
def exhaustive_search_draws(hyper_tuning) -> None:
    """Give HyperTuning's exhaustive search the kind of generator that hyperopt takes today.

    It makes a ``RandomState``, whose ``integers`` hyperopt >= 0.2.6 asks for in vain. Can go when RecBole makes a
    ``numpy.random.Generator``.
    """
    random = types.SimpleNamespace(RandomState=np.random.default_rng)  # nothing else of numpy.random is used there
    hyper_tuning.np = types.SimpleNamespace(**{**vars(np), "random": random})


# --- the terminal --------------------------------------------------------------------------------------------------


@mend(after, "recbole.utils.logger")
def colorama_wraps_once(logger) -> None:
    """Keep RecBole's ``init_logger`` from wrapping sys.stdout anew in every run of a process.

    It calls ``colorama.init`` each time, which puts a wrapper around the last one: output slows with every run, and
    after about a thousand (a search, a leaderboard) ends in RecursionError. Can go when RecBole calls it once.
    """
    from colorama.ansitowin32 import StreamWrapper

    original = logger.init
    if getattr(original, "mended", False):
        return

    @functools.wraps(original)
    def init(*args, **kwargs):
        if not isinstance(sys.stdout, StreamWrapper):
            original(*args, **kwargs)

    init.mended = True
    logger.init = init


@mend(before, "recbole")
def quiet_warnings() -> None:
    """Hide the warnings about RecBole's own lines that every run repeats and no user can act on.

    ``feat[field].fillna(inplace=True)`` (pandas 2.2; pandas 3 is pinned out since it does nothing there),
    ``feat[field].agg(len)`` (pandas 2.1, where a column holds lists) and ``torch.cuda.amp.GradScaler`` (PyTorch 2.4).
    Can go when RecBole writes them in the new way.
    """
    for message in ("A value is trying to be set on a copy", "using <built-in function len>", r"`torch\.cuda\.amp\."):
        warnings.filterwarnings("ignore", message=message, category=FutureWarning, module=r"recbole\.")


# --- messages ------------------------------------------------------------------------------------------------------


@mend(after, "recbole.trainer.trainer")
def trainer_names_its_loss(trainer) -> None:
    """RecBole's trainers end in a bare ``ValueError: Training loss is nan``; it says what to do, and what was kept.

    Still a ValueError. Can go when RecBole says as much.
    """

    def _check_nan(self, loss):
        if not torch.isnan(loss):
            return
        kept = Path(self.saved_model_file)
        best = f"the best model so far is {kept}" if kept.exists() else "no model was saved before it"
        raise TrainingError(f"the training loss is not finite; lower learning_rate; {best}")

    trainer.Trainer._check_nan = _check_nan
