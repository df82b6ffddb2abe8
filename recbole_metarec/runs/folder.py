"""The folder of one run: what was run, on what, and what came out, each file whole or not there."""

from __future__ import annotations

import csv
import hashlib
import io
import json
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

import numpy as np
import yaml

from recbole_metarec.files import write_atomically

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


def write_text(path: Path, text: str) -> None:
    """Writes a file so that it is either the old one or the new one, whole."""
    write_atomically(path, [text.encode()], "free some space or choose another checkpoint_dir")


def write_json(path: Path, content: dict) -> None:
    """Writes JSON; numpy numbers become plain ones, and so do infinities (null: JSON has none)."""
    write_text(path, json.dumps(_plain(content), indent=2) + "\n")


def yaml_text(content: dict) -> str:
    """The config of a run as YAML, readable again by ``--config_files``."""
    return yaml.safe_dump(_plain(content), sort_keys=True, allow_unicode=True)


def write_csv(path: Path, rows: list[dict]) -> None:
    """Writes rows under the union of their columns, in the order of first appearance."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def data_fingerprint(files: list[Path]) -> str:
    """SHA-256 over the interaction files that the run has read, in their order."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest() if sys.version_info >= (3, 11)
                          else hashlib.sha256(file.read()).digest())  # fmt: skip
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in ("recbole-metarec", *_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


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
    found = {"resident": _peak_resident_bytes() / 2**20}
    if device.type == "cuda":
        import torch

        found["gpu"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found


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
