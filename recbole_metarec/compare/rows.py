"""Finished runs exported to a CSV file that can be kept under version control, so that results accumulate over days.

A row says what was trained (the run's recipe, whatever the code), on what data, and with what result. Beside the file,
``FILE.ranks.npz`` keeps the ranks of the held-out items, with which two runs are compared user by user. All figures of
a file are of one metric, which its header names. A file without columns ``removed`` is refused: its figures without
seen items, where it has them, are of a rule that does not count a repeat as missed.
"""

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.metric import NDCG_10, Metric
from recbole_metarec.evaluation.results import RunResult
from recbole_metarec.files import locked, write_atomically
from recbole_metarec.jobs.job import PlannedRun, Recipe

DEEPEST = 255  # ranks beyond are kept as this one: no metric at a smaller depth tells them apart
_REMEDY = "free some space or choose another --rows"


@dataclass(frozen=True)
class Row:
    """One finished run.

    experiment, variant: for which it was done. sources: joined by ``+``. config, data, seed: its recipe. code: the
    version it was done with. best_epoch: None where none was validated. valid, test: by the run's valid_metric.
    valid_removed, test_removed: the same with seen items removed from the ranking. guard: ``fired`` or ``kept``, as the
    transfer guard would have done with the run that it was compared with; "" where it cannot be said. seconds: of the
    whole run. command: repeats it.
    """

    experiment: str
    variant: str
    dataset: str
    sources: str
    config: str
    data: str
    code: str
    seed: int
    best_epoch: int | None
    valid: float
    test: float
    valid_removed: float
    test_removed: float
    guard: str
    seconds: float
    command: str

    @classmethod
    def of(cls, run: PlannedRun, result: RunResult, experiment: str, variant: str, command: str, guard="") -> "Row":
        """The row of a finished run."""
        config, data, seed = run.recipe
        metric = Metric.named(run.config.get("valid_metric", NDCG_10.key)).key
        scores = {row["epoch"]: row["valid_score"] for row in result.history if row.get("valid_score") is not None}
        return cls(
            experiment=experiment,
            variant=variant,
            dataset=run.dataset,
            sources="+".join(run.sources),
            config=config,
            data=data,
            code=run.code,
            seed=seed,
            best_epoch=max(scores, key=lambda epoch: (scores[epoch], -epoch), default=None),
            valid=result.valid[metric],
            test=result.test[metric],
            valid_removed=result.unseen.valid[metric],
            test_removed=result.unseen.test[metric],
            guard=guard,
            seconds=round(result.seconds, 1),
            command=command,
        )

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run that this row is of."""
        return self.config, self.data, self.seed


_TITLES = {"config": "config_hash", "data": "data_fingerprint", "code": "code_version"}
_SCORES = ("valid", "test", "valid_removed", "test_removed")
_NUMBERS = {"seed": int, "best_epoch": int, "seconds": float, **dict.fromkeys(_SCORES, float)}
_MAY_BE_EMPTY = {"best_epoch"}


def columns_of(metric: Metric) -> dict[str, str]:
    """Title of each column of a file -> the field of a row."""
    titles = _TITLES | {name: f"{name}_{metric.key}" for name in _SCORES}
    return {titles.get(field.name, field.name): field.name for field in fields(Row)}


@dataclass(frozen=True)
class Ranks:
    """Ranks of the held-out items of the test users, sorted by token: uint8 [U]. users: a digest of the tokens.

    unseen: those of the ranking without seen items, uint8 [U]. valid: those on validation, uint8 [V], 0 for a user
    without a validation row, and then of users without a test row, sorted by token.
    """

    users: str
    ranks: np.ndarray
    unseen: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, result: RunResult) -> "Ranks":
        """The ranks of a finished run, as they are kept."""
        order = np.argsort(result.test_users, kind="stable")
        tokens = "\n".join(map(str, np.asarray(result.test_users)[order].tolist()))
        only_valid = [rank for _, rank in sorted(result.only_valid.items())]
        valid = np.concatenate([result.valid_ranks[order], np.array(only_valid, dtype=np.int64)])
        ranks = result.test_ranks[order], result.unseen.test_ranks[order], valid
        packed = (np.minimum(each, DEEPEST).astype(np.uint8) for each in ranks)
        return cls(hashlib.sha256(tokens.encode()).hexdigest()[:16], *packed)

    @property
    def packed(self) -> np.ndarray:
        """As the file keeps it: uint8 [3, V], of ranks, those among unseen items, and those on validation, 0 where a
        user has none."""
        tested = (np.pad(each, (0, len(self.valid) - len(each))) for each in (self.ranks, self.unseen))
        return np.stack([*tested, self.valid])

    @classmethod
    def unpacked(cls, users: str, packed: np.ndarray) -> "Ranks":
        """What :attr:`packed` has packed."""
        ranks, unseen, valid = packed
        tested = ranks > 0
        return cls(users, ranks[tested], unseen[tested], valid)


class RowsFile:
    """Rows in one CSV file and ranks beside it, each written whole; several commands may add to it at once.

    metric: by which the rows of this file are.
    """

    def __init__(self, path: str | Path, metric: Metric = NDCG_10):
        self.path, self.columns, self.metric = Path(path), columns_of(metric), metric
        self.ranks_path = self.path.with_name(f"{self.path.name}.ranks.npz")

    def rows(self) -> dict[Recipe, Row]:
        """Every row; none where there is no file yet. Raises DataError, with its line, for a file of another form."""
        if not self.path.exists():
            return {}
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                header, *lines = [*csv.reader(file, strict=True)] or [[]]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.path}: cannot be read as CSV ({error}); fix it or choose another --rows") from None
        self._check_header(header)
        rows: dict[Recipe, Row] = {}
        for number, cells in enumerate(lines, start=2):
            row = self._row(number, cells)
            if rows.setdefault(row.recipe, row) != row:
                self._fail(number, f"a second row of {row.variant}, seed {row.seed}, with other figures")
        return rows

    def _check_header(self, header: list[str]) -> None:
        if header == list(self.columns):
            return
        kept = next((name.removeprefix("test_") for name in header if name.startswith("test_") and "@" in name), None)
        if kept not in (None, self.metric.key):
            raise DataError(
                f"{self.path}: its figures are {kept}, and these compare by {self.metric.key}; choose another --rows"
            )
        if kept and f"test_removed_{kept}" not in header:
            raise DataError(f"{self.path}: of an earlier form; choose another --rows")
        unknown = next((repr(name) for name in header if name not in self.columns), None)
        self._fail(1, f"column {unknown} is unknown" if unknown else f"columns are not {', '.join(self.columns)}")

    def _row(self, line: int, cells: list[str]) -> Row:
        if len(cells) != len(self.columns):
            self._fail(line, f"{len(cells)} fields where the header has {len(self.columns)}")
        values: dict = dict(zip(self.columns.values(), cells))
        titles = {name: title for title, name in self.columns.items()}
        for name, kind in _NUMBERS.items():
            try:
                values[name] = None if name in _MAY_BE_EMPTY and not values[name] else kind(values[name])
            except ValueError:
                self._fail(line, f"{titles[name]} is {values[name]!r}, not a number")
        if not all(0 <= values[name] <= 1 for name in _SCORES):  # also not a number
            self._fail(line, f"valid and test {self.metric.key} must lie in [0, 1]")
        if not (values["config"] and values["data"]):
            self._fail(line, "no config_hash or no data_fingerprint")
        return Row(**values)

    def _fail(self, line: int, what: str):
        raise DataError(f"{self.path}:{line}: {what}; fix the line, remove it, or choose another --rows")

    def ranks(self) -> dict[Recipe, Ranks]:
        """The ranks that are there, of rows or not. Raises DataError for a file that holds something else."""
        if not self.ranks_path.exists():
            return {}
        ranks = {}
        try:
            with np.load(self.ranks_path, allow_pickle=False) as packed:
                for name in packed.files:
                    config, data, seed, users = name.split("-")
                    ranks[config, data, int(seed)] = Ranks.unpacked(users, packed[name])
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.ranks_path}: not a file of ranks ({error}); remove it or restore it") from None
        return ranks

    def put(self, rows: Iterable[Row], ranks: dict[Recipe, Ranks]) -> int:
        """Adds new rows and ranks; an old row without the guard's verdict gets it. Returns how many rows are new.

        Raises DataError if a file cannot be read or written; each is then as it was.
        """
        with locked(self.path.with_name(f".{self.path.name}.lock")):
            before = self.rows()
            ranks_before = {recipe: value for recipe, value in self.ranks().items() if recipe in before}
            after = dict(before)
            for row in rows:
                old = after.setdefault(row.recipe, row)
                after[row.recipe] = replace(old, guard=old.guard or row.guard)
            if any(recipe in after and recipe not in ranks_before for recipe in ranks):
                kept = {recipe: value for recipe, value in {**ranks, **ranks_before}.items() if recipe in after}
                packed = io.BytesIO()
                np.savez_compressed(
                    packed, **{"-".join((*map(str, r), value.users)): value.packed for r, value in kept.items()}
                )
                write_atomically(self.ranks_path, [packed.getvalue()], _REMEDY)
            if after != before:
                write_atomically(self.path, [self._csv(after.values()).encode()], _REMEDY)
            return len(after) - len(before)

    def _csv(self, rows: Iterable[Row]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(asdict(row).values() for row in rows)  # None is an empty cell
        return text.getvalue()
