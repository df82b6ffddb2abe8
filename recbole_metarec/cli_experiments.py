"""What ``ablate`` and ``sweep`` have in common: their options, their checks, and how an experiment is done."""

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from recbole_metarec.arguments import SIMULATE, Once, Settings, count, split_arguments, stand_ins
from recbole_metarec.cli_leaderboard import check_metric, check_storage, tuned_in
from recbole_metarec.config import check_config, default_values
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.keys import said_at
from recbole_metarec.resources import DEFAULT_DATA_PATH

_DEFAULT_SEEDS = 2
_DEFAULT_JOBS = 2
_OWN = (
    "seeds",
    "jobs",
    "store",
    "output",
    "tuned",
    "rows",
    "cost",
    "simulate",
    "variants",
    "models",
    "grid",
    "target_users",
)
RESUMING = """\
The cost is said first. What is in the store, or in the file of rows, is not run again; an interrupted command loses
only the runs in progress: type it again. Any config key may be given as --key=value; it holds for every run.
"""


def add_options(parser: argparse.ArgumentParser, output: str) -> Callable:
    """The options that both commands have; returns what adds one more."""

    def option(*names, **kwargs):
        parser.add_argument(*names, action=Once, **kwargs)

    option("--dataset", metavar="NAME", help="target domain (default: the embedded MovieLens target)")
    option("--seeds", metavar="N", help=f"runs of each arm, seeds counted up from --seed (default: {_DEFAULT_SEEDS})")
    option("--seed", metavar="N", help="the first seed (default: 2020)")
    option("--jobs", metavar="N", help=f"runs at once (default: {_DEFAULT_JOBS}, or 1 where there is one processor)")
    option("--sources", metavar="A,B,C", help="source domains (default: auto)")
    option("--data_path", "--data-path", metavar="DIR", help="folder that holds NAME/NAME.inter for every domain")
    option(
        "--target_users",
        "--target-users",
        metavar="SHARE",
        help="on shops with this share of the target's users, another one for each seed (default: 1, the whole target)",
    )
    option("--config_files", "--config-files", metavar="FILE", nargs="+", help="YAML files with config keys")
    option("--store", metavar="FILE", help="SQLite file of results (default: saved/leaderboard.sqlite)")
    option(
        "--rows",
        metavar="FILE",
        help="CSV file to which finished runs are added; what it holds is not run again, whatever the code's version",
    )
    option(
        "--tuned",
        metavar="URL",
        nargs="?",
        const="",
        help="start from the best configurations of recbole-metarec tune, kept in this storage "
        "(default: sqlite:///saved/tuning.sqlite)",
    )
    option("--simulate", **SIMULATE)
    option("--cost", nargs=0, const=True, help="only say what it would cost")
    option("--output", metavar="DIR", help=f"folder of the reports (default: {output})")
    return option


@dataclass
class Request:
    """What was typed. own: the options that are no config keys. given: config keys for every run. command: as typed."""

    own: dict
    given: dict
    places: dict
    dataset: str
    seeds: range
    jobs: int
    command: str

    @classmethod
    def of(cls, name: str, arguments: list[str], parser: argparse.ArgumentParser) -> "Request":
        """Reads and checks it, as far as that can be done before the data is looked at. Raises MetaRecError."""
        from recbole_metarec.data.domains import EMBEDDED_TARGET, find_domain, resolve_sources
        from recbole_metarec.leaderboard.models import SET_BY_NAME
        from recbole_metarec.leaderboard.process import processors

        typed = split_arguments(parser, arguments)
        own = {key: typed.pop(key) for key in _OWN if key in typed}
        check_storage(own)
        settings = Settings.of(typed)
        given, places = dict(settings.chosen), settings.places
        jobs = count(own["jobs"], "--jobs") if "jobs" in own else min(_DEFAULT_JOBS, processors())
        n_seeds = count(own.get("seeds", str(_DEFAULT_SEEDS)), "--seeds")
        for key in sorted((SET_BY_NAME - {"text_alignment"}) & set(given)):  # with texts, all arms have them
            raise ConfigError(f"{said_at(places[key], f'{key} is what the arms differ by')}; leave it out")
        dataset, first = given.pop("dataset", EMBEDDED_TARGET), given.pop("seed", 2020)
        for seed in (first, first + n_seeds - 1) if isinstance(first, int) else (first,):
            check_config({**default_values("MetaRec"), **given, "dataset": dataset, "seed": seed}, places)
        check_metric(given, places)
        given |= stand_ins(dataset, given, places) if "simulate" in own else {}
        dataset = given.pop("dataset", dataset)
        data_path = given.get("data_path") or DEFAULT_DATA_PATH
        find_domain(dataset, data_path)
        resolve_sources(dataset, given.get("sources", "auto"), data_path)
        if "rows" in own:
            _check_rows(own["rows"])
        command = shlex.join(["recbole-metarec", name, *arguments])
        return cls(own, given, places, dataset, range(first, first + n_seeds), jobs, command)

    @property
    def base(self) -> Path:
        """The folder of everything that is kept."""
        return Path(self.given.get("checkpoint_dir") or "saved")

    def shops(self):
        """What the experiment is on; may write parts of the target to the cache. Raises MetaRecError."""
        from recbole_metarec.experiments.settings import shops_of

        return shops_of(self.own.get("target_users", "1"), self.dataset, self.given, self.seeds)

    def tuned(self, models: list) -> dict:
        """What tuning has found for these models, if it was asked for. Raises MetaRecError."""
        from recbole_metarec.leaderboard.plan import make_plan

        if "tuned" not in self.own:
            return {}
        storage = self.own["tuned"] or f"sqlite:///{self.base}/tuning.sqlite"
        return tuned_in(storage, make_plan(models, self.dataset, self.seeds[:1], self.given))


def _check_rows(text: str) -> None:
    """A mistake in the file, or a place that takes none, is said before anything is run."""
    from recbole_metarec.experiments.rows import RowsFile

    if Path(text).is_dir():
        raise DataError(f"--rows: {text} is a folder; give a file such as rows.csv")
    if not Path(text).absolute().parent.is_dir():
        raise DataError(f"--rows: there is no folder {Path(text).parent}; make it, or name another place")
    TemporaryFile(dir=Path(text).absolute().parent).close()
    RowsFile(text).rows()
    RowsFile(text).ranks()


def carry_out(request: Request, experiment, folder: str) -> int:
    """Says the cost, does what is missing and reports. Returns 0, or 1 if a run has failed."""
    from recbole_metarec.experiments.execution import Execution, portable
    from recbole_metarec.experiments.findings import findings
    from recbole_metarec.experiments.reports import terminal_table, write_reports
    from recbole_metarec.experiments.rows import RowsFile
    from recbole_metarec.leaderboard.models import COMPETITORS, WITHOUT_TRANSFER
    from recbole_metarec.leaderboard.plan import read_by
    from recbole_metarec.leaderboard.store import RunStore
    from recbole_metarec.leaderboard.target import check_sources, describe

    protocol = describe(request.dataset, read_by(COMPETITORS[WITHOUT_TRANSFER], request.given))[0]
    check_sources(experiment.plan)
    output = Path(request.own.get("output") or request.base / folder)
    with RunStore(request.own.get("store") or request.base / "leaderboard.sqlite") as store:
        execution = Execution(experiment, store, RowsFile(request.own["rows"]) if "rows" in request.own else None)
        _say(execution.cost().text(request.jobs))
        if "cost" in request.own:
            return 0
        output.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=output).close()  # shows now, not after hours, whether the reports can be written
        found = findings(experiment, execution.run(request.jobs, _say))
    reports = write_reports(found, protocol, portable(request.command), output)  # who reads what is printed may be gone
    print(f"\n{terminal_table(found, protocol)}\n")
    print("reports:", ", ".join(map(str, reports)))
    return 1 if found.found.failures else 0


def _say(line: str) -> None:
    print(line, flush=True)
