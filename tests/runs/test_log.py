"""The log on the terminal: one line an epoch; RecBole's whole log by a key, and always in the log's file."""

import re
import subprocess
from pathlib import Path

import pytest
from support import nursery
from support.worlds import TINY, write_shop

LINE = re.compile(r"INFO epoch (\d): NDCG@10 (\d\.\d{4}) on validation( \(best\))?, loss \d+\.\d+,.* \d+\.\d s$")


def train(folder: Path, model: str, *words: str) -> list[str]:
    """What a command has printed, which pytest, whose handlers RecBole would leave, has no part in."""
    keys = {key: value for key, value in TINY.items() if model == "MetaRec" or key != "vq_heads"} | {"epochs": 2}
    keys.pop("state", None)
    keys |= {"data_path": str(write_shop(folder / "shop"))}
    words = ["train", "--model", model, "--dataset", "Target", *words, *(f"--{key}={keys[key]}" for key in keys)]
    words = [*nursery.python(), "-m", "recbole_metarec", *words]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, check=True)
    return re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("model", ["MetaRec", "BPR"])
def test_an_epoch_is_a_line_and_the_file_has_all(model, tmp_path):
    lines = train(tmp_path, model, *(["--sources=Near,Far", "--transfer_guard=False"] if model == "MetaRec" else []))
    epochs = [LINE.search(line) for line in lines if " epoch " in line and " INFO " in line and "sources: " not in line]
    (history,) = (tmp_path / "saved").glob("*/history.csv")
    scores = [line.split(",")[-1] for line in history.read_text().splitlines()[1:]]
    assert all(epochs) and [found[1] for found in epochs] == ["0", "1"] and epochs[0][3]
    assert [float(found[2]) for found in epochs] == pytest.approx([float(score) for score in scores], abs=6e-5)
    assert sum("Target: 50 users, 24 items, " in line for line in lines) == 1
    assert not any(word in line for line in lines for word in ("valid result", "Saving current", "Embedding("))
    said = "sources: Near, Far; an epoch takes about 3 times as long as without them"
    assert any(line.endswith(said) for line in lines) == (model == "MetaRec")
    written = next((tmp_path / "log").rglob("*.log")).read_text()
    assert written.count("valid_score") == 2 and "Embedding(" in written


def test_recboles_whole_log_by_a_key_and_the_table_alone(tmp_path):
    text = "\n".join(train(tmp_path, "LRURec", "--long_log=True"))
    assert text.count("valid_score: ") == 2 and "Embedding(" in text
    lines = [line for line in train(tmp_path, "LRURec", "--quiet") if line]
    assert lines[0].startswith("Target: ") and "INFO" not in "".join(lines)
