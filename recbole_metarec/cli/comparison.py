"""What the commands that compare runs have in common, ``leaderboard``, ``ablate`` and ``sweep``: options and checks."""

import functools
import hashlib
import json
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile

import click

from recbole_metarec.cli.options import COUNT, Target, domain_options, key, option, together, typed_command
from recbole_metarec.config.run_config import UserKeys
from recbole_metarec.config.yaml_files import is_yaml_name
from recbole_metarec.files import write_text
from recbole_metarec.lazy import LazyModule

plan = LazyModule("recbole_metarec.jobs.plan")
process = LazyModule("recbole_metarec.jobs.process")
best = LazyModule("recbole_metarec.tuning.best")
best_file = LazyModule("recbole_metarec.tuning.best_file")
storage = LazyModule("recbole_metarec.tuning.storage")

_COMPARED = "compared.txt"  # which comparison the reports beside it are of
_DEFAULT_JOBS = 2  # small models gain more from a neighbour than from a second thread


class _TunedIn(click.ParamType):
    """A storage, a YAML file, or nothing for the usual storage; not a word that was meant for something else."""

    name = "storage"

    def convert(self, value, param, ctx):
        if value and "://" not in value and not is_yaml_name(value):
            self.fail(
                f"{value} is neither the URL of a storage nor a YAML file; put --tuned last, or write --tuned=URL, "
                "such as --tuned=sqlite:///saved/tuning.sqlite, or --tuned=best.yaml"
            )
        return value


@dataclass(frozen=True)
class ComparisonRequest:
    """What to compare on. tuned_in: a storage or YAML file of tuned configurations; "" for the usual storage, None for
    none. store: a file or URL. command: as typed, a password aside."""

    target: Target
    seeds: range
    jobs: int
    store: str
    output: str | None
    tuned_in: str | None
    command: str

    def report_folder(self, default: str, planned: list) -> Path:
        """The folder of the reports, which can be written to.

        default: its name beside the results; a number follows where the reports of another comparison are there.
        planned: the runs that are compared. Raises OSError: now, not after hours.
        """
        if self.output:
            folder = Path(self.output)
        else:
            compared = sorted({(run.model, run.recipe[0]) for run in planned})  # whatever seeds and code
            identity = hashlib.sha256(json.dumps(compared).encode()).hexdigest()[:16]
            names = (self.target.folder / (f"{default}-{n}" if n > 1 else default) for n in count(1))
            folder = next(each for each in names if _compares(each, identity) in (identity, None))
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
        if not self.output:
            write_text(folder / _COMPARED, f"{identity}\n{self.command}\n")
        return folder

    def tuned(self, models: list) -> dict:
        """The tuned configuration of each of these models, if that was asked for; prints which one each has."""
        if self.tuned_in is None:
            return {}
        configurations, notes = self._read_tuned(models)
        print(*notes, sep="\n", flush=True)
        return configurations

    def _read_tuned(self, models: list) -> tuple[dict, list[str]]:
        if is_yaml_name(self.tuned_in):
            return best_file.read_best(Path(self.tuned_in), models)
        target = self.target
        url = self.tuned_in or f"sqlite:///{target.folder}/tuning.sqlite"
        defaults = plan.make_plan(models, target.dataset, self.seeds[:1], target.keys, origins=target.origins)
        with storage.storage_at(url, must_exist=True) as opened:
            return best.best_found(opened, defaults)


def _compares(folder: Path, default: str) -> str | None:
    """The identity of the comparison whose reports are in a folder; None for a folder without any."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    with suppress(OSError, UnicodeDecodeError):
        return (folder / _COMPARED).read_text(encoding="utf-8").partition("\n")[0]
    return default  # by an earlier release, which replaced them


def _options(compared: str, output: str) -> Callable:
    return together(
        option(
            "--seeds",
            metavar="N",
            type=COUNT,
            default=2,
            help=f"runs of each {compared}, with seeds counted up from --seed (default: 2)",
        ),
        key("--seed", metavar="N", help="the first seed (default: 2020)"),
        option(
            "--jobs",
            metavar="N",
            type=COUNT,
            help=f"runs at once, which share the processors (default: {_DEFAULT_JOBS}, or 1 with one processor)",
        ),
        domain_options,
        option(
            "--store",
            metavar="FILE or URL",
            help="where results are kept: an SQLite file, or postgresql://user@host/database, which several machines "
            "can reach (default: saved/leaderboard.sqlite)",
        ),
        option(
            "--tuned",
            metavar="[URL or FILE]",
            type=_TunedIn(),
            is_flag=False,
            flag_value="",
            help="take each model's best configuration from recbole-metarec tune, from this storage or from the YAML "
            "file that tune --best has written (default: sqlite:///saved/tuning.sqlite)",
        ),
        option("--output", metavar="DIR", help=f"folder of the reports (default: {output})"),
    )


def comparison_options(compared: str, output: str, fixed: Collection[str], reason: str) -> Callable:
    """A decorator: the command takes the options that all comparisons have, and is called with a ComparisonRequest in
    their place.

    compared: model or variant, output: the usual folder of the reports, for the help text. fixed: config keys that
    must not be given; reason: why, and what to do instead.
    """

    def decorate(function):
        @functools.wraps(function)
        def command(user: UserKeys, simulate, seeds, jobs, store, tuned, output, **others):
            target = Target.of(user, simulate, fixed, reason, seeds)
            comparison = ComparisonRequest(
                target,
                range(target.seed, target.seed + seeds),
                jobs or min(_DEFAULT_JOBS, process.processors()),
                store or str(target.folder / "leaderboard.sqlite"),
                output,
                tuned,
                typed_command(),
            )
            return function(comparison, **others)

        return _options(compared, output)(command)

    return decorate
