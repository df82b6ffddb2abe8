"""When RecBole is set up: at the import of the package, but by our own commands only when they have something to do."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from recbole_metarec.cli import main as cli
from recbole_metarec.plugin import on_import as launch

COMMAND = "/env/bin/recbole-metarec"


MAIN = str(Path(launch.__file__).parent.with_name("__main__.py"))


@pytest.mark.parametrize(
    ("program", "started", "ours"),
    [
        (COMMAND, [COMMAND, "train"], True),
        ("run_recbole_metarec.py", ["-O", "run_recbole_metarec.py", "--help"], True),
        ("-m", ["-X", "importtime", "-m", "recbole_metarec", "train"], True),
        ("-m", ["-um", "recbole_metarec", "doctor"], True),
        ("-m", ["-I", "-mrecbole_metarec", "doctor"], True),
        (MAIN, [MAIN, "doctor"], True),
        ("-m", ["-m", "recbole_metarec.jobs.worker", "run.json"], False),
        ("-m", ["-m", "pytest", "recbole_metarec"], False),
        # a process that one of ours started keeps the parent's sys.argv
        (COMMAND, ["-c", "from multiprocessing.spawn import spawn_main; spawn_main()"], False),
        ("-c", ["-c", "import recbole_metarec", "doctor"], False),
        ("study.py", ["study.py", COMMAND], False),
        ("", [], False),
    ],
)
def test_only_our_own_commands_put_it_off(program, started, ours, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program, "train"])
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, *started])
    assert launch.is_command_line() == ours


def as_command(code: str) -> list[str]:
    """What a process prints that was started as our command and runs ``code``."""
    start = f"import sys; sys.argv = [{COMMAND!r}]; sys.orig_argv = [sys.executable, *sys.argv]"
    command = [sys.executable, "-c", f"{start}\n{textwrap.dedent(code)}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(launch.__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


SILENT = """
    import contextlib, io
    from recbole_metarec.cli import main as cli
    from recbole_metarec.plugin import on_import as launch

    def code(*argv):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            return cli.main(list(argv)), said.getvalue()

    def check(expected, *argv):
        assert code(*argv)[0] == expected, argv
        assert not {"torch", "recbole"} & set(sys.modules), argv
"""


def test_help_and_mistyped_words_import_neither_torch_nor_recbole():
    checks = ["check(0)", "check(0, '--help')", "check(0, '--version')", "check(2, 'trian')"]
    checks += [f"check(0, {name!r}, '--help')" for name in cli._COMMANDS]
    checks += [f"check(2, {name!r}, '--no-such-option')" for name in cli._COMMANDS]
    wrong = {
        "train": ["--model", "MetaRek"],
        "leaderboard": ["--models", "LRUReck"],
        "ablate": ["--variants", "no-such"],
        "sweep": ["temperatur=1"],
        "tune": ["--trials", "0"],
        "recommend": ["--user", "u"],
        "neighbours": ["no/folder"],
        "simulate": ["--noise", "2"],
    }
    checks += [f"check(2, {[name, *words]!r}[0], *{words!r})" for name, words in wrong.items()]
    as_command(textwrap.dedent(SILENT) + "\n".join(checks))


def test_every_command_sets_up_recbole_before_it_needs_it(own_cache):
    """Whoever imported RecBole earlier would be refused."""
    ready = {
        "train": [],
        "leaderboard": [],
        "ablate": ["--rows", "rows.csv", "--target_users", "0.5"],
        "sweep": ["temperature=0.1,1", "--rows", "rows.csv"],
        "tune": [],
        "recommend": [".", "--user", "u"],
        "neighbours": ["."],
    }
    code = """
    class Ready(BaseException):
        pass

    def set_up():
        raise Ready

    launch.set_up = set_up

    def reached(*argv):
        try:
            print(argv, code(*argv))
        except Ready:
            return True
    """
    lines = [f"assert reached({name!r}, *{words!r}), {name!r}" for name, words in ready.items()]
    as_command(textwrap.dedent(SILENT) + textwrap.dedent(code) + "\n".join(lines))


def test_a_command_that_needs_recbole_early_begins_again():
    said = as_command("""
    import types
    from recbole_metarec.cli import main as cli
    from recbole_metarec.plugin import on_import as launch

    def command(rest, parser):
        print(rest)
        import recbole.config
        return 7

    needs = types.SimpleNamespace(SUMMARY="needs", EXAMPLE="", add_options=lambda parser: None, command=command)
    cli._COMMANDS["needs"] = needs
    print(cli.main(["needs", "it"]))
    """)
    assert said == ["['it']", "['it']", "7"]


def test_recbole_is_refused_until_it_is_set_up():
    said = as_command("""
    import importlib.util
    import recbole_metarec

    assert importlib.util.find_spec("recbole")  # where it lies may be asked
    try:
        import recbole.config
    except RuntimeError as error:
        print(error)
    recbole_metarec.plugin.on_import.set_up()
    recbole_metarec.plugin.on_import.set_up()
    import recbole.trainer
    print(recbole.trainer.MetaRecTrainer.__name__)
    """)
    assert said == ["recbole.config is imported before recbole_metarec.plugin.on_import.set_up()", "TransferTrainer"]
