"""The pictures of a run are drawn without touching the user's own, and only of what was measured."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

from recbole_metarec.runs.figures import draw_codebook, draw_history, draw_similarity

ROOT = Path(__file__).resolve().parents[2]


def source_rows(*keys: str, sources: int = 2) -> list[dict]:
    return [
        {"epoch": epoch, "source": f"S{number}", **{key: epoch + number / 7 for key in keys}}
        for epoch in range(3)
        for number in range(sources)
    ]


def height(file: Path) -> int:
    pixels = imread(file)
    assert pixels.ndim == 3 and float(pixels.std()) > 0  # something is on it
    return pixels.shape[0]


def test_a_notebooks_backend_is_left_alone():
    program = "import sys, recbole_metarec.quick_start; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("sources", [1, 4, 12])
def test_every_picture_is_a_whole_png_and_nothing_else_is_left(tmp_path, sources):
    history = [{"epoch": epoch, "train_loss": 1.0 / (epoch + 3)} for epoch in range(-2, 3)]
    history[-1]["valid_score"] = 0.2
    draw_history({"MetaRec": history, "the same without transfer": history}, "NDCG@10", tmp_path / "a.png")
    similarity = source_rows("similarity_theta", "similarity_phi", "gain", "weight", sources=sources)
    draw_similarity(similarity, tmp_path / "b.png")
    codebook = source_rows("codebook_usage", "perplexity", "relative_error", "collisions", sources=sources)
    draw_codebook(codebook, tmp_path / "c.png")
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png", "c.png"]
    assert all(height(tmp_path / name) > 200 for name in ("a.png", "b.png", "c.png"))


def test_quantities_that_were_not_measured_have_no_panel(tmp_path):
    draw_similarity(source_rows("similarity_theta", "similarity_phi", "gain", "weight"), tmp_path / "four.png")
    draw_similarity(source_rows("weight"), tmp_path / "one.png")
    draw_similarity(source_rows("similarity_theta", "gain", "weight"), tmp_path / "three.png")
    assert height(tmp_path / "three.png") == height(tmp_path / "four.png") > 1.5 * height(tmp_path / "one.png")


def test_nothing_measured_is_no_file(tmp_path):
    draw_similarity(source_rows("loss", "skipped"), tmp_path / "joint.png")
    draw_codebook([], tmp_path / "none.png")
    assert not os.listdir(tmp_path)
