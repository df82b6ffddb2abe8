"""Meta transfer learning across disjoint domains, as a RecBole plugin: importing it is all that RecBole needs."""

import os
import sys

__version__ = "0.1.0"

# What kept the plugin from being set up; None in every process that runs at all, but for the one that finds it out.
import_failure: Exception | None = None


def _asked_for_doctor() -> bool:
    return sys.argv[1:2] == ["doctor"] and os.path.basename(sys.argv[0]) in ("-m", "recbole-metarec", "__main__.py")


try:
    from recbole_metarec import compat

    compat.apply()

    from recbole_metarec import plugin  # it imports recbole, which must be mended first

    plugin.register()
except Exception as problem:
    if not _asked_for_doctor():
        raise
    import_failure = problem
