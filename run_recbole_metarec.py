"""Train from a plain clone, as RecBole's own ``run_recbole.py``: the same as ``recbole-metarec train``."""

import sys

from recbole_metarec.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
