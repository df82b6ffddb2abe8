"""When RecBole is set up: as soon as this package is imported, except by our own command line.

That takes seconds, which ``--help`` and a mistyped option need not wait for: a command sets up RecBole when it has
checked what was typed.
"""

import re
import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

_PROGRAMS = ("recbole-metarec", "run_recbole_metarec")
_MODULE = re.compile(r"-[a-zA-Z]*m ?recbole_metarec")


def is_command_line() -> bool:
    """Whether this process was started as one of our commands; not whether a command's process started this one."""
    program, typed = (sys.argv or [""])[0], sys.orig_argv[1:]
    if program == "-m":  # as Python names it while it looks for the module
        words = [("", word) for word in typed if word.startswith("-")] + list(pairwise(typed))
        return any(_MODULE.fullmatch(f"{before} {word}".strip()) for before, word in words)
    ours = Path(program).stem in _PROGRAMS or Path(program).absolute() == Path(__file__).parent.with_name("__main__.py")
    return ours and program in typed


class TooEarly(RuntimeError):
    """RecBole was imported before it was set up."""


class _Guard:
    """Refuses RecBole before it is mended: it would fail in odd places, or not know our models."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("recbole."):
            raise TooEarly(f"{name} is imported before recbole_metarec.plugin.on_import.set_up()")


def put_off() -> None:
    """From now on RecBole's modules cannot be imported before :func:`set_up`."""
    sys.meta_path.insert(0, _Guard)


def set_up() -> None:
    """Mend RecBole and make it know this package; a second call does nothing."""
    if _Guard in sys.meta_path:
        sys.meta_path.remove(_Guard)
    from recbole_metarec.plugin import mends

    mends.apply()

    from recbole_metarec.plugin import registration  # it imports recbole, which must be mended first

    registration.register()


@contextmanager
def shielded_argv():
    """Within, ``sys.argv`` holds the program's name alone: RecBole's Config reads whatever else it finds there."""
    saved = sys.argv
    sys.argv = saved[:1] or [""]
    try:
        yield
    finally:
        sys.argv = saved


@contextmanager
def recbole_ready():
    """Within, RecBole is set up and sees nothing of the command line."""
    set_up()
    with shielded_argv():
        yield
