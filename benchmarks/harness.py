"""What all benchmarks share: alternating sides, the spread, facts about the machine, one JSON file per row."""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # measure this clone, whatever is installed

import torch  # noqa: E402

RESULTS = HERE / "results"


class NotYet(Exception):
    """A row cannot be measured here and now. The message says why, in one sentence for the table."""


@dataclass
class Figure:
    """Absolute values of one side, one per repeat, in ``unit``."""

    unit: str
    values: Sequence[float]


@dataclass
class Result:
    """The result of a row.

    same: how it was checked that both sides compute the same thing. reached: the value that the goal is about, one per
    repeat. figures: name -> absolute values of a side. notes: what a reader must know to judge the value.
    """

    same: str
    reached: Sequence[float]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    notes: str = ""


def alternate(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Measures each side ``repeats`` times in turn, after one round that does not count.

    A side does its work and returns its value. Every other round is in reverse order, so that a machine that becomes
    slower or faster meanwhile favours no side. Returns name -> one value per repeat.
    """
    values = {name: [] for name in sides}
    for number in range(-1, repeats):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in order:
            value = sides[name]()
            if number >= 0:
                values[name].append(value)
    return values


def seconds(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes by the wall clock; waits for the GPU if there is one."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """above / below, repeat by repeat."""
    return [a / b for a, b in zip(above, below, strict=True)]


def medians(values: Sequence[float], size: int) -> list[float]:
    """The median of every ``size`` values in turn: the cost of a short piece of work, undisturbed by outliers."""
    return [statistics.median(values[start : start + size]) for start in range(0, len(values), size)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """(min, median, max)."""
    return min(values), statistics.median(values), max(values)


def assert_close(what: str, difference: float, tolerance: float) -> str:
    """The difference as text for the table. Raises AssertionError if it is too large: such sides are not compared."""
    if not difference <= tolerance:
        raise AssertionError(f"{what} differs by {difference:.3g}, more than {tolerance:.3g}: nothing was measured")
    return f"{difference:.0e}" if difference else "0"


def machine() -> dict:
    """Processor, cores, threads and versions."""
    from recbole_metarec.runs.folder import versions

    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main(measure: Callable[[argparse.Namespace], Result], **arguments: dict) -> None:
    """The command line of a row: measures it and writes ROW.json.

    arguments: further options of the row, name -> keyword arguments of ``add_argument``. Runs in an empty folder,
    because RecBole writes its logs into the current one.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--data_path", required=True, help="folder that holds NAME/NAME.inter")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--row", default=Path(sys.argv[0]).stem, help="name of the JSON file")
    for name, settings in arguments.items():
        parser.add_argument(f"--{name}", **settings)
    options = parser.parse_args()
    options.data_path = str(Path(options.data_path).expanduser().absolute())
    results = options.results.absolute()
    sys.argv = sys.argv[:1]  # RecBole's Config would read the other arguments
    torch.set_num_threads(options.threads)
    started, home = time.perf_counter(), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            content = asdict(measure(options))
        except NotYet as reason:
            print(f"not yet: {reason}")
            if (results / f"{options.row}.json").exists():  # measured elsewhere
                return
            content = {"not_yet": str(reason)}
        finally:
            os.chdir(home)
    write_row(results, options.row, content, time.perf_counter() - started)
    print(json.dumps(content, indent=2))


def write_row(folder: Path, row: str, content: dict, took: float) -> None:
    """Writes folder/ROW.json: the numbers with their machine, commit and date. took: seconds."""
    from recbole_metarec.files import write_json
    from recbole_metarec.runs.folder import git_commit

    folder.mkdir(parents=True, exist_ok=True)
    stamp = {"date": time.strftime("%Y-%m-%d"), "commit": git_commit(), "seconds": round(took, 1)}
    write_json(folder / f"{row}.json", {"row": row, **content, **stamp, "machine": machine()})
