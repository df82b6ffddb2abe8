"""Meta transfer learning across disjoint domains, as a RecBole plugin: importing it is all that RecBole needs."""

from recbole_metarec import launch

__version__ = "0.1.0"

if launch.is_command_line():
    launch.put_off()
else:
    launch.set_up()
