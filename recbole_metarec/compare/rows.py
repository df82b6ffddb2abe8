"""Finished runs as rows of a CSV file that can be kept under version control, so that work adds up over days.

A row says what was trained (a hash of the config, whatever the code), on what data, and what was found. Beside the
file, ``FILE.ranks.npz`` keeps the ranks of the held-out items, by which two runs are compared user by user.
"""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from recbole_metarec.config.schema import keys_in
from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.results import RunResult
from recbole_metarec.evaluation.significance import METRIC
from recbole_metarec.files import locked, write_atomically
from recbole_metarec.jobs.job import PlannedRun

# A config key that did not exist when rows were written -> the value with which a run is as it was before: rows stay
# those of the runs that have it.
NEUTRAL: dict[str, object] = {"text_space": "all", "text_whitening": True}
# What a run without texts counts as, whatever stands there: it reads none of these.
_UNREAD = {"text_width": 512, **NEUTRAL}
DEEPEST = 255  # ranks beyond are kept as this one; no metric at 10 or 50 tells them apart
_REMEDY = "free some space or choose another --rows"
Identity = tuple[str, str, int]


@dataclass(frozen=True)
class Row:
    """One finished run.

    experiment, variant: for which it was done. sources: joined by ``+``. config: hash of all that decides the result
    but for data, seed and code. data, code: fingerprints. best_epoch: None where none was validated. valid, test:
    NDCG@10. guard: ``fired`` or ``kept``, as the transfer guard would have done with the run that it was held against;
    "" where it cannot be said. seconds: of the whole run. command: repeats it.
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
    guard: str
    seconds: float
    command: str

    @property
    def identity(self) -> Identity:
        """What makes it the row of a planned run."""
        return self.config, self.data, self.seed


@dataclass(frozen=True)
class Ranks:
    """Ranks of the held-out items of the test users, sorted by token: uint8 [U]. users: a digest of the tokens."""

    users: str
    ranks: np.ndarray


_TITLES = {"config": "config_hash", "data": "data_fingerprint", "code": "code_version"}
_TITLES |= {"valid": f"valid_{METRIC}", "test": f"test_{METRIC}"}
COLUMNS = {_TITLES.get(field.name, field.name): field.name for field in fields(Row)}


def config_hash(run: PlannedRun) -> str:
    """Equal for two runs exactly if what is trained and how is equal: code, data, seed and machine aside."""
    config = {key: value for key, value in run.config.items() if key not in keys_in("machine", "repetition")}
    if config.get("text_alignment") is False:
        config |= {key: value for key, value in _UNREAD.items() if key in config}
    config = {key: value for key, value in config.items() if not (key in NEUTRAL and NEUTRAL[key] == value)}
    text = json.dumps(_plain([run.experiment, run.dataset, run.sources, config]), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value):
    """1.0 is 1, however it was typed."""
    if isinstance(value, dict):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(own) for own in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def identity(run: PlannedRun) -> Identity:
    """Of the row that a planned run would leave."""
    return config_hash(run), run.data, run.seed


def row_of(run: PlannedRun, result: RunResult, experiment: str, variant: str, command: str, guard: str = "") -> Row:
    """The row of a finished run."""
    scores = {row["epoch"]: row["valid_score"] for row in result.history if row.get("valid_score") is not None}
    config, data, seed = identity(run)
    return Row(
        experiment=experiment,
        variant=variant,
        dataset=run.dataset,
        sources="+".join(run.sources),
        config=config,
        data=data,
        code=run.code,
        seed=seed,
        best_epoch=max(scores, key=lambda epoch: (scores[epoch], -epoch), default=None),
        valid=result.valid[METRIC],
        test=result.test[METRIC],
        guard=guard,
        seconds=round(result.seconds, 1),
        command=command,
    )


def ranks_of(result: RunResult) -> Ranks:
    """The ranks of a finished run, as they are kept."""
    order = np.argsort(result.test_users, kind="stable")
    users = np.asarray(result.test_users)[order]
    digest = hashlib.sha256("\n".join(map(str, users.tolist())).encode()).hexdigest()[:16]
    return Ranks(digest, np.minimum(np.asarray(result.test_ranks)[order], DEEPEST).astype(np.uint8))


class RowsFile:
    """Rows in one CSV file and ranks beside it, each written whole; several commands may add to it at once."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.ranks_path = self.path.with_name(f"{self.path.name}.ranks.npz")

    def rows(self) -> dict[Identity, Row]:
        """Every row; none where there is no file yet. Raises DataError, with its line, for a file of another form."""
        if not self.path.exists():
            return {}
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                lines = csv.reader(file, strict=True)
                header = next(lines, [])
                if header != list(COLUMNS):
                    wrong = next((name for name in header if name not in COLUMNS), None)
                    said = f"column {wrong!r} is unknown" if wrong else f"columns are not {', '.join(COLUMNS)}"
                    self._fail(1, said)
                rows = [self._row(lines.line_num, cells) for cells in lines]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.path}: cannot be read as CSV ({error}); mend it or choose another --rows") from None
        found = {}
        for number, row in enumerate(rows, start=2):
            if found.setdefault(row.identity, row) != row:
                self._fail(number, f"a second row of {row.variant}, seed {row.seed}, with other figures")
        return found

    def _row(self, line: int, cells: list[str]) -> Row:
        if len(cells) != len(COLUMNS):
            self._fail(line, f"{len(cells)} fields where the header has {len(COLUMNS)}")
        values: dict = dict(zip(COLUMNS.values(), cells))
        kinds = {"seed": int, "valid": float, "test": float, "seconds": float}
        kinds |= {"best_epoch": int} if values["best_epoch"] else {}
        for name, kind in kinds.items():
            try:
                values[name] = kind(values[name])
            except ValueError:
                self._fail(line, f"{_TITLES.get(name, name)} is {values[name]!r}, not a number")
        if not (0 <= values["valid"] <= 1 and 0 <= values["test"] <= 1):  # also not a number
            self._fail(line, f"valid and test {METRIC} must lie in [0, 1]")
        if not (values["config"] and values["data"]):
            self._fail(line, "no config_hash or no data_fingerprint")
        return Row(**(values | ({} if values["best_epoch"] != "" else {"best_epoch": None})))

    def _fail(self, line: int, what: str):
        raise DataError(f"{self.path}:{line}: {what}; mend the line, remove it, or choose another --rows")

    def ranks(self) -> dict[Identity, Ranks]:
        """The ranks that are there, of rows or not. Raises DataError for a file that holds something else."""
        if not self.ranks_path.exists():
            return {}
        found = {}
        try:
            with np.load(self.ranks_path, allow_pickle=False) as packed:
                for name in packed.files:
                    config, data, seed, users = name.split("-")
                    found[config, data, int(seed)] = Ranks(users, packed[name])
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.ranks_path}: not a file of ranks ({error}); remove it or restore it") from None
        return found

    def put(self, rows: Iterable[Row], ranks: dict[Identity, Ranks]) -> int:
        """Adds what is not there; a row without the guard's verdict gets it. Returns how many rows are new.

        Raises DataError if a file cannot be read or written; each is then as it was.
        """
        with locked(self.path.with_name(f".{self.path.name}.lock")):
            known, kept = self.rows(), self.ranks()
            before = dict(known)
            for row in rows:
                if row.identity not in known or (row.guard and not known[row.identity].guard):
                    old = known.get(row.identity)
                    known[row.identity] = row if old is None else Row(**{**asdict(old), "guard": row.guard})
            more = {key: value for key, value in ranks.items() if key not in kept and key in known}
            if more:
                kept = {key: value for key, value in {**kept, **more}.items() if key in known}
                packed = io.BytesIO()
                names = {"-".join((*map(str, key), own.users)): own.ranks for key, own in kept.items()}
                np.savez_compressed(packed, **names)
                write_atomically(self.ranks_path, [packed.getvalue()], _REMEDY)
            if known != before:
                write_atomically(self.path, [_csv(known.values()).encode()], _REMEDY)
            return len(known) - len(before)


def _csv(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        values = asdict(row)
        writer.writerow("" if values[name] is None else values[name] for name in COLUMNS.values())
    return text.getvalue()
