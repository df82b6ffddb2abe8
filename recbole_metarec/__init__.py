"""Meta transfer learning across disjoint domains, as a RecBole plugin: importing it is all that RecBole needs."""

from recbole_metarec.plugin import on_import

__version__ = "0.1.0"

on_import.install()
