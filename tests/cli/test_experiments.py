"""The commands ablate and sweep: mistakes before anything is run, and one whole sweep on a small shop."""

import csv
import re
from pathlib import Path

import pytest
from support.worlds import TINY, write_shop

from recbole_metarec.cli import main as cli
from recbole_metarec.compare.rows import RowsFile
from recbole_metarec.evaluation.transfer_guard import deploys_transfer, p_of_gain

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["ablate", "--variants", "unifrom"], "--variants: unknown variant unifrom; did you mean uniform?"),
        (["ablate", "--variants", ""], "--variants: unknown variant (empty); "),
        (["ablate", "--seeds", "0"], "--seeds: 0 "),
        (["ablate", "--jobs", "1.5"], "--jobs: '1.5' is not a valid whole number; "),
        (["ablate", "--meta_transfer=joint"], "--meta_transfer is what the variants differ by; "),
        (["ablate", "--dropout_prob=2"], "--dropout_prob is 2; "),
        (["ablate", "--dataset", "Sciencific"], "domain Sciencific is not known (did you mean Scientific?)"),
        (["ablate", "--sources", "A,A"], "--sources: source A is given twice; "),
        (["ablate", "--varaints", "uniform"], "--varaints: not an option of recbole-metarec ablate; did you mean "),
        (["ablate", "temperature=1"], "Got unexpected extra argument (temperature=1); see "),
        (["ablate", "--topk=[255]", "--valid_metric=MRR@255", "--rows", "r.csv"], "--rows: MRR@255 is deeper than "),
        (["ablate", "--target_users", "2"], "target_users: 2 is not allowed; use a number in (0, 1]"),
        (["ablate", "--target_users", "0.1,0.2"], "--target_users: one share; recbole-metarec sweep "),
        (["ablate", "--rows", "."], "--rows: . is a folder; give a file such as rows.csv"),
        (["sweep"], "Missing argument 'KEY=v1,v2,...'; see recbole-metarec sweep --help"),
        (["sweep", "temprature=1"], "sweep: unknown config key temprature; did you mean temperature?"),
        (["sweep", "temperature="], "temperature: an empty value in temperature=; "),
        (["sweep", "inner_steps=1,two"], "sweep: inner_steps is two; use an int >= 1"),
        (["sweep", "temperature=1", "inner_steps=2"], "Got unexpected extra argument (inner_steps=2); "),
        (["sweep", "temperature=1", "--temperature=2"], "--temperature is what is varied; leave it out"),
        (["sweep", "temperature=1", "--models", "MetRec"], "--models: unknown model MetRec; did you mean MetaRec?"),
        (["sweep", "target_users=0.1,2"], "target_users: 2 is not allowed; use a number in (0, 1]"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line_and_exit_code_2_and_leaves_nothing(argv, message, refused):
    refused(argv, message)


@pytest.mark.parametrize(
    ("grid", "sources", "told"),
    [
        ("temperature=0.1,1", "Near", "temperature only weighs sources, and the only source is Near: "),
        (
            "similarity_at=theta,phi",
            "none",
            "similarity_at only weighs sources, and there is no source: ",
        ),
        ("temperature=0.1,1", "Near,Far", ""),
        ("inner_steps=1,2", "Near", ""),
    ],
)
def test_a_sweep_that_can_change_nothing_says_so(grid, sources, told, capsys, tmp_path, monkeypatch):
    write_shop(tmp_path / "shops")
    words = ["--dataset", "Target", "--data_path", str(tmp_path / "shops"), "--sources", sources]
    assert cli.main(["sweep", grid, *words, "--cost", *(f"--{key}={value}" for key, value in TINY.items())]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == bool(told) and err.startswith(f"warning: {told}" * bool(told))


def test_a_sweep_from_cost_to_report_and_again_from_its_rows_alone(capsys, tmp_path, forked_runs):
    write_shop(tmp_path / "shops")
    keys = {**TINY, "epochs": 1, "state": "ERROR", "device": "cpu"}
    words = ["sweep", "n_sources=0,1", *(f"--{key}={value}" for key, value in keys.items())]
    words += ["--dataset", "Target", "--data_path", str(tmp_path / "shops"), "--sources", "Near,Far", "--seeds", "1"]
    words += ["--jobs", "2", "--rows", "rows.csv", "--output", "report"]
    assert cli.main([*words, "--cost"]) == 0
    out = capsys.readouterr().out
    assert re.match(r"cost: 2 runs, 2 of them to do, .* by a rule of thumb", out) and out.count("\n") == 1
    assert not Path("report").exists() and not Path("rows.csv").exists()
    assert cli.main(words) == 0
    first = capsys.readouterr().out
    assert "MetaRec[1] seed 7: started" in first and "MetaRec[0] seed 7" not in first
    assert sorted(path.name for path in Path("report").iterdir()) == ["sweep.csv", "sweep.md", "sweep.png"]
    rows = list(csv.DictReader(Path("rows.csv").read_text().splitlines()))
    assert [(row["variant"], row["sources"]) for row in rows] == [("LRURec", ""), ("MetaRec[1]", "Near")]
    valid = [ranks.valid for ranks in RowsFile("rows.csv").ranks().values()]
    verdict = "kept" if deploys_transfer(p_of_gain(valid[1][valid[1] > 0], valid[0][valid[0] > 0])) else "fired"
    assert [row["guard"] for row in rows] == ["", verdict]
    assert str(tmp_path) not in Path("rows.csv").read_text()
    table = {
        row["model"] + row["n_sources"]: row
        for row in csv.DictReader(Path("report/sweep.csv").read_text().splitlines())
    }
    assert float(table["MetaRec0"]["to_LRURec"]) == 0.0 and table["MetaRec1"]["to_LRURec_over"] == "users"
    assert str(tmp_path) not in Path("report/sweep.md").read_text()
    before = {path.name: path.read_text() for path in Path("report").glob("sweep.[cm]*")}
    assert cli.main([*words, "--store", "other.sqlite"]) == 0
    second = capsys.readouterr().out
    assert second.startswith("cost: nothing; all 2 runs are there\n") and "started" not in second
    assert {path.name: path.read_text() for path in Path("report").glob("sweep.[cm]*")} == before
    Path("rows.csv").write_text("nonsense\n")
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith("error: rows.csv:1: column 'nonsense' is unknown; ")
