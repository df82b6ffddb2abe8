"""What a run needs, looked at one by one: each finding says whether it is in order and, if not, what to do.

No check may depend on what it checks: a package that cannot be imported is a finding, never a traceback.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import recbole_metarec
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.lazy import LazyModule

files = LazyModule("recbole_metarec.files")
dataset_files = LazyModule("recbole_metarec.config.dataset_files")
domains = LazyModule("recbole_metarec.data.domains")
embedded = LazyModule("recbole_metarec.data.embedded")
writer = LazyModule("recbole_metarec.data.writer")
mends = LazyModule("recbole_metarec.plugin.mends")

OK, NOTE, PROBLEM = "ok", "note", "problem"
_GIB = 2**30
_SELF_TEST_SECONDS = 180


@dataclass(frozen=True)
class Finding:
    """level: ok, note (works, but you should know) or problem. todo: what to do about it, "" for nothing."""

    level: str
    what: str
    todo: str = ""


def examine(data_path: str) -> Iterator[Finding]:
    """All findings, each as soon as it is known; a check comes after those that it depends on."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": check_versions,
        "the plugin": check_plugin,
        "the mends of RecBole": check_mends,
        "the GPU": check_gpu,
        "threads": check_threads,
        "folders": check_folders,
        "data": lambda: check_data(data_path),
        "optional packages": check_optional,
        "the self-test": check_self_test,
    }
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:  # a broken machine breaks in ways that nobody has listed
            yield Finding(PROBLEM, f"{name}: {_told(error)}", "fix the problems above first, then try again")


def check_versions() -> Iterator[Finding]:
    """Whether Python and every required package are installed in a version that works."""
    from packaging.requirements import Requirement

    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(OK, f"Python {python}, recbole-metarec {recbole_metarec.__version__}")
    wanted = [Requirement(text) for text in requirements()]
    if sys.version_info >= (3, 12):  # pip cannot know of it there: see setup.cfg
        wanted.append(Requirement("recbole==1.2.1"))
    fine = []
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding(PROBLEM, f"{requirement.name} is not installed", _install(requirement))
            continue
        if requirement.specifier.contains(version, prereleases=True):
            fine.append(f"{requirement.name} {version}")
        else:
            what = f"{requirement.name} {version} is not {requirement.specifier}"
            yield Finding(PROBLEM, what, _install(requirement))
    yield Finding(OK, f"packages: {', '.join(fine)}")


def requirements() -> list[str]:
    """What this package requires, extras left out: by the setup.cfg beside it (a clone), or by its installation."""
    settings = ConfigParser()
    if settings.read(Path(recbole_metarec.__file__).resolve().parent.parent / "setup.cfg", encoding="utf-8"):
        return settings.get("options", "install_requires", fallback="").strip().splitlines()
    return [text for text in metadata.requires("recbole-metarec") or () if "extra ==" not in text]


def _install(requirement) -> str:
    without = " --no-deps" if requirement.name == "recbole" and sys.version_info >= (3, 12) else ""
    return f"python -m pip install{without} '{requirement.name}{requirement.specifier}'"


def check_plugin() -> Iterator[Finding]:
    """Whether RecBole could be imported and knows this package."""
    failure = _failure()
    if failure is None:
        yield Finding(OK, "RecBole is imported and knows the models of this package")
    else:
        todo = "fix the versions above; or start afresh: python -m venv env, and install recbole-metarec there"
        yield Finding(PROBLEM, f"RecBole or this package cannot be imported: {_told(failure)}", todo)


def _failure() -> Exception | None:
    """What keeps RecBole from being imported."""
    try:
        for name in ("recbole.quick_start", "recbole.trainer", "recbole.model.sequential_recommender"):
            importlib.import_module(name)
    except Exception as problem:
        return problem


def check_mends() -> Iterator[Finding]:
    """Which of RecBole's faults are patched in this process, and why."""
    idle = []
    for mend in mends.mends():
        if mend.in_force:
            yield Finding(OK, f"RecBole mend {mend.name}: {mend.reason}")
        else:
            idle.append(mend.name)
    if idle:
        todo = "they come back once RecBole can be imported"
        yield Finding(PROBLEM, f"RecBole mends not in force: {', '.join(idle)}", todo)


def check_gpu() -> Iterator[Finding]:
    """Whether PyTorch and the machine agree about a GPU."""
    import torch

    built = (
        f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}" * bool(torch.version.hip)
    )
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            total = float((torch.ones(8, device=f"cuda:{number}") @ torch.ones(8, device=f"cuda:{number}")).cpu())
            what = f"GPU {number}: {device.name}, {device.total_memory / _GIB:.0f} GiB ({built})"
            todo = "" if total == 8.0 else "update the GPU's driver, or run with --device=cpu"
            yield Finding(PROBLEM if todo else OK, what + (" computes 8 wrongly" if todo else ""), todo)
        return
    driver = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    if driver and not built:
        todo = "install the CUDA build that pytorch.org names for this machine, or continue without the GPU"
        yield Finding(NOTE, "there is an NVIDIA GPU, but this PyTorch is built without CUDA", todo)
    elif driver:
        todo = "update the driver, or install an older CUDA build of PyTorch; nvidia-smi tells what the driver can do"
        yield Finding(NOTE, f"there is an NVIDIA driver, but PyTorch ({built}) sees no GPU", todo)
    else:
        yield Finding(OK, "no GPU; everything runs on the CPU")


def check_threads() -> Iterator[Finding]:
    """Threads of PyTorch against the processors that this process may use."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    what = f"PyTorch uses {torch.get_num_threads()} threads on {usable} usable processors"
    if torch.get_num_threads() > usable:
        yield Finding(NOTE, what, f"set OMP_NUM_THREADS={usable}: more threads than processors slow each other down")
    else:
        yield Finding(OK, what)


def check_folders() -> Iterator[Finding]:
    """Whether the folders that runs write to can be written to, and how much room there is."""
    remedies = {
        files.cache_dir(): "set METAREC_CACHE to a folder that you may write to",
        Path("saved"): "start from another folder, or set the config key checkpoint_dir",
        Path("log"): "start from another folder: RecBole writes log/ into the current one",
    }
    for folder, remedy in remedies.items():
        yield folder_finding(folder, remedy)


def folder_finding(folder: Path, remedy: str) -> Finding:
    """Tries a file in ``folder``, or where it would be made; leaves nothing."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return Finding(PROBLEM, f"{folder}: cannot be written to ({error.strerror})", remedy)
    free = shutil.disk_usage(nearest).free / _GIB
    if free < 1:
        return Finding(NOTE, f"{folder}: only {free:.2f} GiB free", f"free some space, or {remedy}")
    return Finding(OK, f"{folder}: can be written to, {free:.0f} GiB free")


def check_data(data_path: str) -> Iterator[Finding]:
    """Where each domain is, and which of the known ones are missing."""
    if not Path(data_path).expanduser().is_dir():
        todo = "give --data_path, the folder that holds NAME/NAME.inter; the embedded domains need none"
        level = NOTE if data_path == DEFAULT_DATA_PATH else PROBLEM
        yield Finding(level, f"data_path {data_path} is not a folder", todo)
    embedded.movielens_dir()
    yield Finding(OK, f"data {', '.join(embedded.EMBEDDED_DOMAINS)}: bundled with RecBole, split by genre")
    present = domains.present_domains(data_path)
    here = {*present, *embedded.EMBEDDED_DOMAINS}
    missing = [name for name in dataset_files.known_domains() if name not in here]
    for name in present:
        folder = domains.find_domain(name, data_path)
        simulated = " (simulated)" if writer.read_about(folder, name).get("simulated") else ""
        yield Finding(OK, f"data {name}{simulated}: {folder / name}")
    if missing:
        todo = "recbole-metarec prepare NAME downloads one of them; --data_path names the folder of others"
        yield Finding(NOTE, f"data not here: {', '.join(missing)}", todo)


def check_optional() -> Iterator[Finding]:
    """Packages that only some keys need."""
    if find_spec("sentence_transformers"):
        yield Finding(OK, f"sentence-transformers {metadata.version('sentence-transformers')}")
    else:
        todo = "only text_encoder: NAME needs it: pip install 'recbole-metarec[text]'; tfidf, the default, does not"
        yield Finding(NOTE, "sentence-transformers is not installed", todo)


def check_self_test() -> Iterator[Finding]:
    """Trains, saves and loads a tiny model in a temporary folder, in a process of its own."""
    if _failure():
        yield Finding(PROBLEM, "self-test: cannot run before RecBole can be imported")
        return
    home = str(Path(recbole_metarec.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "recbole_metarec.cli.self_test", folder]
        start = time.monotonic()
        try:
            ended = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                timeout=_SELF_TEST_SECONDS,
            )
        except subprocess.TimeoutExpired:
            todo = "look for other work on this machine, and at the threads above"
            yield Finding(PROBLEM, f"self-test: not done after {_SELF_TEST_SECONDS} s", todo)
            return
        seconds = time.monotonic() - start
    yield self_test_finding(ended.returncode, ended.stdout, ended.stderr, seconds)


def self_test_finding(code: int, out: str, err: str, seconds: float) -> Finding:
    """What the self-test's exit code and output mean; seconds: how long it took, its start included."""
    last = next((line for line in reversed((out + "\n" + err).splitlines()) if line.strip()), "")
    if code:
        told = f"killed by signal {-code}" if code < 0 else last
        return Finding(PROBLEM, f"self-test: {told}", "fix the problems above; if there are none, report this line")
    result = json.loads(out.splitlines()[-1])
    loss = f"loss {result['first_loss']:.3f} to {result['last_loss']:.3f}"
    what = (
        f"MetaRec trained on {result['device']} ({loss}), was saved, loaded, and gives the same scores; {seconds:.1f} s"
    )
    return Finding(OK, f"self-test: {what}")


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
