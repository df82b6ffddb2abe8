"""Parts of a domain that experiments compare, in the cache: a subsample of its users, or two halves that share some.

A cut is deterministic, and is reused if it was made from the very same files.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from recbole_metarec.data.domains import find_domain
from recbole_metarec.data.writer import ORIGINAL_TIME, STAMP, USER, check_free, read_about, write_domain
from recbole_metarec.errors import DataError
from recbole_metarec.files import cache_dir, data_fingerprint, make_dir, replace_folders
from recbole_metarec.prepare.split_domains import Dataset, read_frames
from recbole_metarec.prepare.splitting import PartShares, split_by_shares

_RULE = 1  # to be raised when the same domain and share give other files than before
_CORE = 3  # events of every user and item in a half: a user needs three for a test row


def share_name(name: str, share: float, number: int = 0) -> str:
    """The name of a domain with this share of ``name``'s users: ``Scientific-users10`` for 0.1, then ``-2``, ..."""
    if share == 1:
        return name
    return f"{name}-users{100 * share:.10g}" + (f"-{number + 1}" if number else "")


def disjoint_subsamples(share: float) -> int:
    """How many subsamples of this share, in (0, 1], have no user in common."""
    return int(1 / share + 1e-9)


def chosen_users(users: list[str], share: float, number: int = 0) -> set[str]:
    """The users of subsample ``number``, in [0, disjoint_subsamples(share)): at least one.

    Two subsamples of a share are disjoint unless there are more of them than users. The first subsample of a share
    contains the first one of every smaller share. Drawn by a digest of the users' names, so the order of the file does
    not matter.
    """
    drawn = sorted(users, key=lambda user: hashlib.sha256(user.encode()).digest())
    start = min(round(number * share * len(drawn)), len(drawn) - 1)
    return set(drawn[start : max(start + 1, round((number + 1) * share * len(drawn)))])


def cut_users(name: str, data_path: str | None, share: float, number: int = 0) -> str:
    """Writes a copy of ``name`` with one subsample of this share of its users to the cache; returns the copy's name.

    Items that only other users have are not in it. A share of 1 is the domain itself.
    Raises DataError if the domain cannot be read, if ``data_path`` holds another one of the copy's name, or if nothing
    can be written.
    """
    if share == 1:
        return name

    def part(dataset: Dataset) -> pl.DataFrame:
        kept = chosen_users(dataset.events[USER].unique().to_list(), share, number)
        return dataset.events.filter(pl.col(USER).is_in(list(kept)))

    how = {"share_of_users": share, **({"shop": number + 1} if number else {})}
    return _cut(name, data_path, share_name(name, share, number), how, part)


def cut_overlap(name: str, data_path: str | None, kind: str, share: float) -> tuple[str, str]:
    """Writes two halves of ``name`` to the cache: (the target, which is the same for every share, the source).

    Half of the users and half of the items are the target's, the others the source's; a share of the
    target's ``kind`` (``users`` or ``items``), from none (0) to all (1), is added to the source, which grows by it. No
    event is in both halves. Raises DataError as :func:`cut_users` does.
    """

    def part(which: str, shares: PartShares) -> Callable[[Dataset], pl.DataFrame]:
        return lambda dataset: split_by_shares(dataset.events, shares, seed=0, core=_CORE).parts[which]

    shares = PartShares(**{f"overlap_{kind}": share})
    target = _cut(name, data_path, f"{name}-half", {"half": "target"}, part("a", PartShares()))
    other = f"{name}-other-{kind}{100 * share:.10g}" if share else f"{name}-other"
    about = {"half": "source", "overlap": kind if share else "none", "share": share}
    return target, _cut(name, data_path, other, about, part("b", shares))


def _cut(name: str, data_path: str | None, cut: str, how: Mapping, part: Callable[[Dataset], pl.DataFrame]) -> str:
    other = Path(data_path or ".").expanduser() / cut
    if data_path and other.exists():
        raise DataError(f"{other}: is there already, and has the name that a part of {name} needs; rename it")
    folder = find_domain(name, data_path) / name
    files = [file for file in (folder / f"{name}.inter", folder / f"{name}.item") if file.is_file()]
    about = {"cut_from": name, **how, "rule": _RULE, "origin": data_fingerprint(files)}
    if not _is_cut(cut, about):
        dataset = read_frames(name, data_path)
        about |= {"simulated": True} if dataset.about.get("simulated") else {}
        events, types = part(dataset), dataset.types
        events = events.select(column for column in events.columns if column not in (STAMP, ORIGINAL_TIME))
        _publish(cut, about, lambda hidden: write_domain(hidden, cut, events, dataset.items, about=about, types=types))
    return cut


def _publish(cut: str, about: Mapping, write: Callable[[Path], Path]) -> None:
    """What ``write`` makes in a hidden folder, moved to the cache unless another process was faster."""
    cache = make_dir(cache_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{cut}.", dir=cache) as hidden:
            built = write(Path(hidden))
            if not _is_cut(cut, about):
                replace_folders({built: check_free(cache, cut, overwrite=True)})
    except OSError as error:
        if not _is_cut(cut, about):  # else another process was just faster
            what = f"{cache / cut}: cannot be written ({error.strerror or error})"
            raise DataError(f"{what}; check its permissions and the space on its disk") from None


def _is_cut(cut: str, about: Mapping) -> bool:
    written = read_about(cache_dir(), cut)
    return (cache_dir() / cut / f"{cut}.inter").is_file() and {key: written.get(key) for key in about} == about
