"""Meta transfer learning across disjoint domains, as a RecBole plugin: importing it is all that RecBole needs."""

from recbole_metarec import compat

compat.apply()

from recbole_metarec import plugin  # noqa: E402  (it imports recbole, which must be mended first)

plugin.register()

__version__ = "0.1.0"
