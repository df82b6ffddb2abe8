"""From raw reviews to a 5-core domain: ours against the same in pandas, in seconds and peak memory.

    python benchmarks/prepare.py --lines 10000000

The reviews are simulated, in the format of the 2018 files (.json.gz). Both sides read the same file, each in its own
process, drop repetitions, reduce to the 5-core and write an interaction file. If the events differ, nothing is printed.
Peak memory is the process's largest resident size, interpreter and libraries included.
"""

import argparse
import gzip
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
CORE = 5
_BATCH = 100_000
_TEXT = (
    "works well and holds up after many months of use although the handle is a little loose and the box came open "
    "would buy it again for the workshop price was fair shipping took a week"
)
_FIELDS = {"reviewerID": "user", "asin": "item", "unixReviewTime": "time", "overall": "rating"}


def write_reviews(path: Path, lines: int, seed: int = 0) -> None:
    """Writes reviews whose users and items have long tails, some repeated, in no order of time."""
    rng = np.random.default_rng(seed)
    n_users, n_items = max(lines // 3, 10), max(lines // 25, 10)
    with gzip.open(path, "wb", compresslevel=1) as file:
        for start in range(0, lines, _BATCH):
            size = min(_BATCH, lines - start)
            users = (n_users * rng.random(size) ** 2).astype(int)
            items = (n_items * rng.random(size) ** 3).astype(int)
            times = rng.integers(1_200_000_000, 1_540_000_000, size) // 86400 * 86400
            texts = [" ".join(rng.choice(_TEXT.split(), 40)) for _ in range(200)]
            rows = list(zip(users.tolist(), items.tolist(), times.tolist(), rng.integers(1, 6, size).tolist()))
            rows[-max(size // 100, 1) :] = rows[: max(size // 100, 1)]  # repetitions
            file.writelines(_review(*row, texts[number % 200]) for number, row in enumerate(rows))


def _review(user: int, item: int, when: int, rating: int, text: str) -> bytes:
    record = {
        "overall": float(rating),
        "verified": True,
        "reviewTime": time.strftime("%m %d, %Y", time.gmtime(when)),
        "reviewerID": f"A{user:013d}",
        "asin": f"B{item:09d}",
        "reviewerName": "A. Customer",
        "reviewText": text,
        "summary": text[:40],
        "unixReviewTime": when,
    }
    return json.dumps(record).encode() + b"\n"


def ours(raw: Path, folder: Path) -> Path:
    """Runs the command as a user types it. Returns the interaction file."""
    sys.path.insert(0, str(ROOT))  # measure this clone, whatever is installed
    from recbole_metarec.cli import main as cli

    assert cli.main(["prepare", "Made", "--raw", str(raw), "--data_path", str(folder), "--core", str(CORE)]) == 0
    return folder / "Made" / "Made.inter"


def with_pandas(raw: Path, folder: Path) -> Path:
    """What one would write with pandas: in chunks, with the four columns that count. Returns the interaction file."""
    parts = pd.read_json(
        raw, lines=True, chunksize=500_000, dtype={"reviewerID": str, "asin": str}, convert_dates=False
    )
    log = pd.concat(part[list(_FIELDS)].rename(columns=_FIELDS) for part in parts)
    log = log.drop_duplicates(["user", "item", "time"])
    while True:
        keep = (log.groupby("user")["user"].transform("size") >= CORE) & (
            log.groupby("item")["item"].transform("size") >= CORE
        )
        if keep.all():
            break
        log = log[keep]
    log = log.sort_values(["user", "time"], kind="stable")
    log["rank"] = log.groupby("user").cumcount()
    path = folder / "pandas.inter"
    log[["user", "item", "rank", "time", "rating"]].to_csv(path, sep="\t", index=False)
    return path


SIDES = {"ours": ours, "pandas": with_pandas}


def fingerprint(path: Path) -> str:
    """Hash of the events, every history with items, ranks, times and ratings, whatever the order of users."""
    log = pd.read_csv(
        path, sep="\t", header=0, names=["user", "item", "rank", "time", "rating"], dtype={"rating": float}
    )
    log = log.sort_values(["user", "rank"], kind="stable", ignore_index=True)
    return hashlib.sha256(pd.util.hash_pandas_object(log, index=False).to_numpy().tobytes()).hexdigest()


def _measure(side: str, raw: Path) -> dict:
    """Runs one side in its own process. Returns seconds, peak bytes, and the fingerprint of the events."""
    command = [sys.executable, __file__, "--side", side, "--raw", str(raw)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _run_side(side: str, raw: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        path = SIDES[side](raw, Path(folder))
        took = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # before the check, which reads with pandas
        print(json.dumps({"seconds": took, "peak": peak, "events": fingerprint(path)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--raw", type=Path, help="file to read, made there if it is missing (default: a temporary one)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=SIDES, help="measure one side alone")
    options = parser.parse_args()
    if options.side:
        _run_side(options.side, options.raw)
        return
    with tempfile.TemporaryDirectory() as folder:
        raw = options.raw or Path(folder) / "reviews.json.gz"
        if not raw.exists():
            write_reviews(raw, options.lines)
        results = {side: _measure(side, raw) for side in ([options.only] if options.only else SIDES)}
        size = raw.stat().st_size
    if len({result["events"] for result in results.values()}) > 1:
        sys.exit("the two sides wrote other events: nothing was measured")
    print(f"{options.lines:,d} lines, {size / 2**20:,.0f} MiB gzipped, {os.cpu_count()} cores")
    for side, result in results.items():
        print(f"{side:8s} {result['seconds']:8.1f} s  peak {result['peak'] / 2**30:6.2f} GiB")
    if len(results) == 2:
        print(
            f"ratio    {results['pandas']['seconds'] / results['ours']['seconds']:8.1f} ×       "
            f"{results['pandas']['peak'] / results['ours']['peak']:6.2f} ×"
        )


if __name__ == "__main__":
    main()
