"""``python -m recbole_metarec`` is the command ``recbole-metarec``."""

import sys

from recbole_metarec.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
