"""What the commands that compare runs have in common, ``leaderboard``, ``ablate`` and ``sweep``: options and checks."""

import argparse
import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from recbole_metarec.cli.options import Settings, count, domain_options, options_of, split_arguments, stand_ins
from recbole_metarec.config.origins import located
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.run_config import RunConfig, UserKeys
from recbole_metarec.config.suggestions import show
from recbole_metarec.config.yaml_files import is_yaml_name
from recbole_metarec.errors import ConfigError
from recbole_metarec.plugin.gpu import check_gpu

_OWN = ("seeds", "jobs", "store", "output", "tuned", "simulate")
_DEFAULT_SEEDS = 2
_DEFAULT_JOBS = 2  # small models gain more from a neighbour than from a second thread


def run_options(parser: argparse.ArgumentParser, compared: str, output: str) -> Callable:
    """Adds the options that all have, and returns what adds one more. compared: model or arm, for the help text."""
    option = options_of(parser)
    option(
        "--seeds",
        metavar="N",
        help=f"runs of each {compared}, with seeds counted up from --seed (default: {_DEFAULT_SEEDS})",
    )
    option("--seed", metavar="N", help="the first seed (default: 2020)")
    option(
        "--jobs",
        metavar="N",
        help=f"runs at once, which share the processors (default: {_DEFAULT_JOBS}, or 1 where there is one processor)",
    )
    domain_options(option)
    option("--store", metavar="FILE", help="SQLite file of results (default: saved/leaderboard.sqlite)")
    option(
        "--tuned",
        metavar="URL or FILE",
        nargs="?",
        const="",
        help="take each model's best configuration from recbole-metarec tune, kept in this storage, or in the YAML "
        "file that tune --best has written (default: sqlite:///saved/tuning.sqlite)",
    )
    option("--output", metavar="DIR", help=f"folder of the reports (default: {output})")
    return option


@dataclass(frozen=True)
class RunRequest:
    """What was typed. own: the options that are no config keys. given: config keys for every run. command: as typed."""

    own: dict
    given: dict
    places: dict
    dataset: str
    seeds: range
    jobs: int
    command: str

    @classmethod
    def of(
        cls,
        parser: argparse.ArgumentParser,
        arguments: list[str],
        own: Collection[str],
        fixed: Collection[str],
        differ: str,
    ) -> "RunRequest":
        """Reads and checks it, as far as that can be done before sources and models are looked at.

        own: options of this command alone. fixed: config keys that must not be given, because ``differ`` ("the arms
        differ by") them. Raises MetaRecError.
        """
        from recbole_metarec.data.domains import EMBEDDED_TARGET, find_domain
        from recbole_metarec.jobs.process import processors

        typed = split_arguments(parser, arguments)
        found = {key: typed.pop(key) for key in (*_OWN, *own) if key in typed}
        _check_storage(found.get("tuned"))
        settings = Settings.of(typed)
        given, places = dict(settings.chosen), settings.places
        jobs = count(found["jobs"], "--jobs") if "jobs" in found else min(_DEFAULT_JOBS, processors())
        n_seeds = count(found.get("seeds", str(_DEFAULT_SEEDS)), "--seeds")
        choose = " and choose with --models" if "models" in own else ""
        for key in sorted(set(fixed) & set(given)):
            raise ConfigError(f"{located(places[key], f'{key} is what {differ}')}; leave it out{choose}")
        dataset, first = given.pop("dataset", EMBEDDED_TARGET), given.pop("seed", 2020)
        for seed in (first, first + n_seeds - 1) if isinstance(first, int) else (first,):
            run_config = RunConfig.build("MetaRec", dataset, UserKeys({**given, "seed": seed}, places))
        check_gpu(run_config)
        _check_metric(given, places)
        given |= stand_ins(dataset, given, places) if "simulate" in found else {}
        dataset = given.pop("dataset", dataset)
        command = shlex.join([*parser.prog.split(), *arguments])
        request = cls(found, given, places, dataset, range(first, first + n_seeds), jobs, command)
        find_domain(dataset, request.data_path)
        return request

    @property
    def data_path(self) -> str:
        """Where the domains lie."""
        return self.given.get("data_path") or DEFAULT_DATA_PATH

    @property
    def base(self) -> Path:
        """The folder of everything that is kept."""
        return Path(self.given.get("checkpoint_dir") or "saved")

    @property
    def store(self) -> Path:
        """The file of results."""
        return Path(self.own.get("store") or self.base / "leaderboard.sqlite")

    def output(self, default: str) -> Path:
        """The folder of the reports; ``default``: its name in :attr:`base`."""
        return Path(self.own.get("output") or self.base / default)

    def sources(self) -> list[str]:
        """The sources that are there. Raises MetaRecError if one that was named is missing or cannot be one."""
        from recbole_metarec.data.domains import resolve_sources

        return resolve_sources(self.dataset, self.given.get("sources", "auto"), self.data_path)[0]

    def tuned(self, models: list) -> dict:
        """What tuning has found for these models, if it was asked for; says which configuration each has then."""
        if "tuned" not in self.own:
            return {}
        place = self.own["tuned"] or f"sqlite:///{self.base}/tuning.sqlite"
        found, notes = self._tuned_in(place, models)
        print(*notes, sep="\n", flush=True)
        return found

    def _tuned_in(self, place: str, models: list) -> tuple[dict, list[str]]:
        from recbole_metarec.jobs.plan import make_plan
        from recbole_metarec.tuning.best import best_found
        from recbole_metarec.tuning.best_file import read_best
        from recbole_metarec.tuning.storage import storage_at

        if is_yaml_name(place):
            return read_best(Path(place), models)
        defaults = make_plan(models, self.dataset, self.seeds[:1], self.given)
        with storage_at(place, must_exist=True) as opened:
            return best_found(opened, defaults)


def _check_storage(url: str | None) -> None:
    """Raises ConfigError if what stands behind ``--tuned`` was meant for something else."""
    if url and "://" not in url and not is_yaml_name(url):
        raise ConfigError(
            f"--tuned: {url} is neither the URL of a storage nor a YAML file; put --tuned last, or write --tuned=URL, "
            "such as --tuned=sqlite:///saved/tuning.sqlite, or --tuned=best.yaml"
        )


def _check_metric(chosen: dict, places: dict) -> None:
    """Raises ConfigError unless the runs measure what the comparison is by."""
    topk, metrics = chosen.get("topk", 10), chosen.get("metrics", "NDCG")
    topk, metrics = (value if isinstance(value, list) else [value] for value in (topk, metrics))
    for key, missing in (("topk", 10 not in topk), ("metrics", "NDCG" not in [str(name).upper() for name in metrics])):
        if missing:
            problem = located(places[key], f"{key} is {show(chosen[key])}")
            raise ConfigError(f"{problem}; models are compared by NDCG@10, so keep it in")
