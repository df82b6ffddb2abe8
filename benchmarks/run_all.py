"""Measures the rows of rows.yaml, each in a fresh process, and writes results.md.

python benchmarks/run_all.py --data_path DIR                     # everything
python benchmarks/run_all.py --data_path DIR --rows meta_step    # one row; the others keep their numbers
python benchmarks/run_all.py --data_path DIR --resume            # only rows that have no numbers yet
python benchmarks/run_all.py --report_only                       # results.md again from the JSON files
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from harness import HERE, RESULTS
from report import read_results, read_rows, report


def main() -> int:
    rows = read_rows()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", help="folder that holds NAME/NAME.inter")
    parser.add_argument("--rows", nargs="+", choices=list(rows), metavar="ROW", default=list(rows))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--resume", action="store_true", help="leave out rows that have been measured")
    parser.add_argument("--report_only", action="store_true", help="measure nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files; results.md beside it")
    options = parser.parse_args()
    if not options.report_only and not options.data_path:
        parser.error("--data_path: say where NAME/NAME.inter lie, or --report_only")
    failed = []
    if not options.report_only:
        done = read_results(options.results, rows) if options.resume else {}
        done = [name for name, result in done.items() if "not_yet" not in result]
        chosen = [name for name in options.rows if "script" in rows[name] and name not in done]
        failed = [name for name in chosen if not measure(name, rows[name], options)]
    text = report(rows, read_results(options.results, rows))
    (options.results.absolute().parent / "results.md").write_text(text, encoding="utf-8")
    if failed:
        print(f"error: {', '.join(failed)} failed; what they had before, if anything, is shown", file=sys.stderr)
    return 1 if failed else 0


def measure(name: str, row: dict, options) -> bool:
    """Measures one row in its own process. Returns False if that fails."""
    command = [sys.executable, str(HERE / row["script"]), "--row", name, "--data_path", options.data_path]
    command += ["--repeats", str(options.repeats), "--threads", str(options.threads)]
    command += ["--results", str(options.results), *row.get("arguments", [])]
    started = time.perf_counter()
    print(f"{name} ...", end=" ", flush=True)
    ended = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": str(options.threads)}, capture_output=True, text=True
    )
    print(f"{'done' if ended.returncode == 0 else 'failed'} in {time.perf_counter() - started:.0f} s", flush=True)
    if ended.returncode:
        print(ended.stderr, file=sys.stderr)
    return ended.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
