"""The folder of one run: what was run, on what, and what came out, each file whole or not there."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
import time
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # commands that train nothing need no torch
    import torch

_PACKAGES = ("recbole", "torch", "numpy", "pandas", "scipy")


def make_run_folder(parent: str | Path, model: str, dataset: str, seed: int) -> Path:
    """Makes ``<model>-<dataset>-<seed>-<time>-<hash>`` under ``parent``; no two runs can share one.

    Raises OSError if it cannot be written.
    """
    Path(parent).mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d_%H%M%S")
    folder = Path(parent) / f"{model}-{dataset}-{seed}-{stamp}-{uuid.uuid4().hex[:6]}"
    folder.mkdir(exist_ok=False)
    return folder


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    packages = {name: release(name) or "not installed" for name in ("recbole-metarec", *_PACKAGES)}
    return {"python": platform.python_version(), **packages}


def release(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Commit of the clone that the code runs from, with ``+`` if files differ from it; None outside a clone."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def peak_memory_mib(device: torch.device) -> dict[str, float]:
    """Peak of this process so far: resident memory and, on a GPU, memory held there. MiB."""
    peaks = {"resident": _peak_resident_bytes() / 2**20}
    if device.type == "cuda":
        import torch

        peaks["gpu"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peaks


def _peak_resident_bytes() -> int:
    try:  # ru_maxrss holds the peak of the process that started this one, too
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)[1]) * 1024
    except (OSError, TypeError):
        scale = 1 if sys.platform == "darwin" else 1024  # bytes there and KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def threads() -> dict[str, int | None]:
    """Processors of the machine and threads that torch uses."""
    import torch

    return {"cpus": os.cpu_count(), "torch_threads": torch.get_num_threads()}
