"""The script that measures a GPU, tried where there is none: on the CPU, on a small domain."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from support import nursery
from support.worlds import cluster_histories, write_domain

ROOT = Path(__file__).resolve().parents[1]


def test_it_measures_every_kind_of_step_and_says_what_agrees(tmp_path):
    write_domain(tmp_path / "data", "Scientific", cluster_histories(1, 60, 24, 4, 0.8))
    words = [str(ROOT / "benchmarks" / "gpu.py"), "--data_path", "data", "--device", "cpu", "--steps", "2"]
    done = subprocess.run(
        [*nursery.python(), *words, "--sources", "2", "--out", "found.json"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    steps = [case for case in found.values() if isinstance(case, dict) and "steps a second" in case]
    assert len(steps) == 6 and all(case["steps a second"] > 0 for case in steps)
    for case in steps:
        off = case["gradient off the CPU's by"]
        assert off is None or off == pytest.approx(0.0, abs=1e-6)
    assert found["serving"]["same top 10"] == 1.0
