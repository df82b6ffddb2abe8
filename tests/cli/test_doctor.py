"""The doctor on a machine that is well, and on several that are not: a finding with a remedy, never a traceback."""

import os
import re
import subprocess
import textwrap
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support import nursery
from support.worlds import write_domain

import recbole_metarec
from recbole_metarec.cli import doctor_checks as doctor
from recbole_metarec.cli import main as cli
from recbole_metarec.cli import self_test
from recbole_metarec.cli.doctor_checks import NOTE, OK, PROBLEM, Finding
from recbole_metarec.config import recbole_files
from recbole_metarec.config.dataset_files import known_domains
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.data.embedded import EMBEDDED_DOMAINS
from recbole_metarec.plugin import checkpoint_mends, evaluation_mends, mends

ROOT = Path(recbole_metarec.__file__).resolve().parents[1]


def run_doctor(folder: Path, *first_on_path: Path) -> subprocess.CompletedProcess:
    path = os.pathsep.join(map(str, [*first_on_path, ROOT]))
    environment = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [*nursery.python(), "-m", "recbole_metarec", "doctor"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_a_machine_on_which_tests_run_is_well(tmp_path):
    done = run_doctor(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "self-test: MetaRec trained" in done.stdout and "gives the same scores" in done.stdout
    assert f"torch {metadata.version('torch')}" in done.stdout
    (missing,) = (line for line in done.stdout.splitlines() if "not here" in line)
    assert missing.startswith("note     data not here: ") and "Scientific, Sports" in missing
    assert "no problems" in done.stdout and done.stderr == ""
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.parametrize(
    "package, fault", [("recbole", "ImportError: on purpose"), ("polars", "ImportError: on purpose")]
)
def test_a_package_that_cannot_be_imported_is_a_problem_and_no_traceback(package, fault, tmp_path):
    (tmp_path / "hide" / package).mkdir(parents=True)
    (tmp_path / "hide" / package / "__init__.py").write_text("raise ImportError('on purpose')")
    done = run_doctor(tmp_path, tmp_path / "hide")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert f"problem  RecBole or this package cannot be imported: {fault}" in done.stdout
    assert "self-test: cannot run before" in done.stdout and "can be written to" in done.stdout


def test_whoever_imports_a_broken_recbole_is_told_what_breaks_it(tmp_path):
    (tmp_path / "recbole").mkdir()
    (tmp_path / "recbole" / "__init__.py").write_text("raise ImportError('on purpose')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    words = ["-c", "import recbole_metarec, recbole.config"]
    done = subprocess.run([*nursery.python(), *words], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "ImportError: on purpose" in done.stderr


def test_a_command_without_recbole_says_that_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(recbole_files, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="recbole is not installed; "):
        recbole_files.recbole_models("sequential" * 2)  # of a kind that is in no cache


def test_every_mend_is_listed_with_its_reason_and_in_force_once_recbole_is_imported():
    assert next(doctor.check_plugin()).level == OK
    found = {mend.name: mend for mend in mends.mends()}
    functions = {**vars(mends), **vars(checkpoint_mends), **vars(evaluation_mends)}
    told = [
        name for name, one in functions.items() if re.search("an go (when|with)", getattr(one, "__doc__", "") or "")
    ]
    assert set(told) == set(found)
    assert all(mend.in_force and len(mend.reason) > 20 and "`" not in mend.reason for mend in found.values())


def levels(findings) -> list[str]:
    return [finding.level for finding in findings]


def test_a_missing_package_and_a_wrong_version_are_told_with_the_command_that_helps(monkeypatch):
    wanted = ["numpy>=1", "torch<1", "surely-not-here>=2", 'nobody==1; python_version < "3"']
    monkeypatch.setattr(doctor, "requirements", lambda: wanted)
    found = list(doctor.check_versions())
    problems = [finding for finding in found if finding.level == PROBLEM]
    assert [finding.todo for finding in problems] == [
        "python -m pip install 'torch<1'",
        "python -m pip install 'surely-not-here>=2'",
    ]
    assert problems[0].what == f"torch {metadata.version('torch')} is not <1"
    assert "numpy" in found[-1].what and "nobody" not in "".join(finding.what for finding in found)


def test_requirements_are_those_of_setup_cfg():
    text = (ROOT / "setup.cfg").read_text()
    found = doctor.requirements()
    assert "polars>=1.36" in found and all(requirement in text for requirement in found)
    assert not any("sentence-transformers" in requirement for requirement in found)


@pytest.mark.parametrize(
    "driver, cuda, level, word",
    [
        (None, None, OK, "no GPU"),
        ("/bin/nvidia-smi", None, NOTE, "without CUDA"),
        ("/bin/nvidia-smi", "12.4", NOTE, "sees no GPU"),
    ],
)
def test_a_gpu_that_pytorch_cannot_use_is_told(driver, cuda, level, word, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: driver)
    monkeypatch.setattr(doctor.Path, "exists", lambda self: False)
    (found,) = doctor.check_gpu()
    assert found.level == level and word in found.what and bool(found.todo) == (level == NOTE)


def test_more_threads_than_processors_are_told(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    (found,) = doctor.check_threads()
    assert found.level == NOTE and "OMP_NUM_THREADS=" in found.todo


def test_a_folder_is_tried_and_left_as_it_was(tmp_path, monkeypatch):
    assert doctor.folder_finding(tmp_path / "saved" / "deep", "elsewhere").level == OK
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: SimpleNamespace(free=2**28))
    assert doctor.folder_finding(tmp_path, "elsewhere").what.endswith("only 0.25 GiB free")
    (tmp_path / "file").write_text("")
    found = doctor.folder_finding(tmp_path / "file" / "saved", "elsewhere")
    assert (found.level, found.todo) == (PROBLEM, "elsewhere")


def test_data_is_found_where_it_lies(tmp_path, empty_cache):
    write_domain(tmp_path, "Office", [[1, 2, 3]])
    (tmp_path / "Office" / "Office.json").write_text('{"simulated": {"seed": 1}}')
    found = {finding.what.split(":")[0]: finding for finding in doctor.check_data(str(tmp_path))}
    assert found["data Office (simulated)"].what.endswith(str(tmp_path / "Office"))
    missing = found["data not here"]
    assert "recbole-metarec prepare NAME" in missing.todo
    here = {"Office", *EMBEDDED_DOMAINS}
    assert missing.what.removeprefix("data not here: ").split(", ") == [n for n in known_domains() if n not in here]
    assert levels(doctor.check_data(str(tmp_path / "absent")))[0] == PROBLEM, "whoever named it expects it there"
    assert levels(doctor.check_data(DEFAULT_DATA_PATH))[0] == NOTE


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(monkeypatch):
    def broken():
        raise RuntimeError("of a kind\nnobody listed")
        yield

    monkeypatch.setattr(doctor, "check_gpu", broken)
    monkeypatch.setattr(doctor, "check_self_test", lambda: iter([Finding(OK, "self-test")]))
    found = list(doctor.examine("absent"))
    assert "the GPU: RuntimeError: of a kind nobody listed" in [f.what for f in found if f.level == PROBLEM]
    assert found[-1].what == "self-test"


def test_the_self_test_tells_a_loss_that_is_no_number_or_does_not_fall():
    self_test.check_losses([3.0, 3.1, 2.0])
    for losses in ([3.0, float("nan")], [3.0, float("inf")], [2.0, 2.5], [2.0, 2.0]):
        with pytest.raises(self_test.SelfTestError, match="loss"):
            self_test.check_losses(losses)


def test_the_self_test_tells_a_model_that_came_back_another():
    one, other = ({"a": 1.0, "b": second} for second in (0.5, 0.6))

    def recommender(scores):
        return SimpleNamespace(recommend=lambda history, k, include_seen: list(scores.items()))

    self_test.check_scores(recommender(one), recommender(dict(reversed(one.items()))), ["a"])
    for wrong in (other, {"a": 1.0}):
        with pytest.raises(self_test.SelfTestError, match="other scores"):
            self_test.check_scores(recommender(one), recommender(wrong), ["a"])


def test_how_the_self_test_ended_is_told():
    good = '{"first_loss": 3.0, "last_loss": 2.0, "device": "cpu"}'
    found = doctor.self_test_finding(0, f"a log line\n{good}\n", "", 12.34)
    assert found.level == OK and found.what.endswith("; 12.3 s")
    assert "the loss" in doctor.self_test_finding(1, "the loss does not fall\n", "", 1.0).what
    assert "ValueError: x" in doctor.self_test_finding(1, "", "Traceback ...\nValueError: x\n\n", 1.0).what
    assert "killed by signal 11" in doctor.self_test_finding(-11, "", "", 1.0).what


def test_the_exit_code_and_the_last_line_count_the_problems(monkeypatch, capsys):
    for findings, code, last in (
        ([Finding(OK, "a"), Finding(NOTE, "b", "do")], 0, "no problems, 1 note"),
        ([Finding(PROBLEM, "a", "do this"), Finding(NOTE, "b"), Finding(NOTE, "c")], 1, "1 problem, 2 notes"),
    ):
        monkeypatch.setattr("recbole_metarec.cli.doctor.examine", lambda data_path, findings=findings: iter(findings))
        assert cli.main(["doctor"]) == code
        out = capsys.readouterr().out.splitlines()
        assert out[-1] == last
        assert out.count("         -> do") + out.count("         -> do this") == 1


def test_the_doctor_takes_no_config_key(refused):
    refused(["doctor", "--epochs=3"], "--epochs: ")
    refused(["doctor", "now"], "")


def test_the_self_test_is_a_program_of_its_own(tmp_path):
    (tmp_path / "Target").write_text("")  # in its way
    code = textwrap.dedent("import sys; from recbole_metarec.cli.self_test import main; sys.exit(main(sys.argv[1]))")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*nursery.python(), "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "FileExistsError" in doctor.self_test_finding(1, done.stdout, done.stderr, 1.0).what
