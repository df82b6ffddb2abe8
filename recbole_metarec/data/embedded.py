"""The embedded default: MovieLens-100K, which RecBole carries in its package, cut into four disjoint domains.

A movie belongs to the first domain of ``GENRES`` that has one of its genres. A user belongs to one domain: the
pairs (user, domain) are taken in the order of preference (the user's share of ratings in the domain, relative to
everybody's share), the smaller user number first, until each domain has its quota of users. What a user rated in
other domains is left out, then each domain is reduced to its 5-core. Nothing is random.

Half of the ratings share their second with another rating of the same user. Within such a tie the order is the one
of RecBole's file, which is arbitrary but fixed; ``timestamp`` is the rank that results, so every model sees it alike.
"""

import hashlib
import importlib.util
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_metarec.data.filters import core
from recbole_metarec.data.order import history_ranks
from recbole_metarec.data.text_file import read_columns
from recbole_metarec.data.writer import ORIGINAL_TIME
from recbole_metarec.errors import DataError
from recbole_metarec.files import make_dir, publish_folder, write_atomically

EMBEDDED_TARGET = "ml-drama"
EMBEDDED_SOURCES = ("ml-action", "ml-comedy", "ml-thriller")
EMBEDDED_DOMAINS = (EMBEDDED_TARGET, *EMBEDDED_SOURCES)

# In order of priority; chosen among all orders because it makes the four most alike in ratings. Drama, which is in
# half of the movies, comes last and takes every movie that is left.
GENRES = {
    "ml-thriller": ("Thriller", "Crime", "Mystery", "Horror", "Film-Noir"),
    "ml-action": ("Action", "Adventure", "War", "Western", "Sci-Fi"),
    "ml-comedy": ("Comedy", "Children's", "Animation", "Musical", "Fantasy"),
    "ml-drama": (),
}
# Fifths of the users. The target has two, because its test users decide how small a difference can be seen.
SHARES = {"ml-drama": 2, "ml-action": 1, "ml-comedy": 1, "ml-thriller": 1}
CORE = 5
RULE = 1  # to be raised when what is written changes although the tables above do not


def movielens_dir() -> Path:
    """The folder ``ml-100k`` inside the recbole package, which is not imported. Raises DataError if absent."""
    spec = importlib.util.find_spec("recbole")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(package) / "dataset_example" / "ml-100k"
        if (folder / "ml-100k.inter").is_file() and (folder / "ml-100k.item").is_file():
            return folder
    raise DataError(
        "the installed recbole package has no dataset_example/ml-100k, from which the embedded domains are "
        "cut; reinstall recbole 1.2.1, or name a domain of your own with --dataset and --data_path"
    )


def ensure_embedded(cache_dir) -> Path:
    """Folder F with ``F/NAME/NAME.inter`` and ``.item`` for the four embedded domains, made there if it is missing.

    F's name carries a hash of the rule and of the raw files, so that a changed rule never meets an old cut. It is
    built beside and renamed: it is complete or absent, and processes may race. Raises DataError if the raw files
    are missing or the cache cannot be written.
    """
    raw = movielens_dir()
    final = Path(cache_dir) / f"movielens-{_stamp(raw)}"
    if _is_complete(final):
        return final
    make_dir(Path(cache_dir))
    try:
        building = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=cache_dir))
        try:
            building.chmod(0o755)
            _write_domains(raw, building)
            if final.exists() and not _is_complete(final):  # somebody deleted a file from it
                shutil.rmtree(final, ignore_errors=True)
            publish_folder(building, final)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{final}: cannot be written ({error.strerror}); set METAREC_CACHE to a folder that you may write to"
        ) from None
    return final


def cut_domains(inter: pd.DataFrame, item: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each domain, in the order of ``inter``, after the 5-core.

    inter: columns user_id, item_id, timestamp (text); item: item_id, class (genres separated by spaces).
    """
    domain_of_item = {i: _domain_of_movie(genres.split()) for i, genres in zip(item["item_id"], item["class"])}
    domain = inter["item_id"].map(domain_of_item)
    home = inter["user_id"].map(_assign_users(inter["user_id"], domain))
    return {name: _core(inter[(domain == name) & (home == name)]) for name in GENRES}


def _domain_of_movie(genres: list[str]) -> str:
    return next((name for name, listed in GENRES.items() if set(genres) & set(listed)), list(GENRES)[-1])


def _assign_users(users: pd.Series, domains: pd.Series) -> dict[str, str]:
    """The one domain of each user; exact fractions, so that no rounding decides a tie."""
    counts = pd.crosstab(users, domains).reindex(columns=list(GENRES), fill_value=0)
    totals = {name: int(counts[name].sum()) for name in GENRES}
    preference = []
    for user, row in zip(counts.index, counts.itertuples(index=False)):
        n_ratings = sum(map(int, row))
        for name, count in zip(GENRES, row):
            share = Fraction(int(count), n_ratings * totals[name]) if totals[name] else Fraction(0)
            preference.append((-share, int(user), name))
    room = _quotas(len(counts))
    homes: dict[str, str] = {}
    for _, number, name in sorted(preference):
        user = str(number)
        if user not in homes and room[name] > 0:
            homes[user] = name
            room[name] -= 1
    return homes


def _quotas(n_users: int) -> dict[str, int]:
    """Users each domain may take: its share rounded down, the remainder to the target."""
    parts = sum(SHARES.values())
    quotas = {name: n_users * share // parts for name, share in SHARES.items()}
    quotas[EMBEDDED_TARGET] += n_users - sum(quotas.values())
    return quotas


def _core(rows: pd.DataFrame) -> pd.DataFrame:
    kept = core(*(pd.factorize(rows[column])[0] for column in ("user_id", "item_id")), CORE, CORE)
    return rows if kept is None else rows.iloc[kept]


def _write_domains(raw: Path, folder: Path) -> None:
    inter, item = _read(raw / "ml-100k.inter"), _read(raw / "ml-100k.item")
    texts = {
        i: _describe(*fields)
        for i, *fields in zip(item["item_id"], item["movie_title"], item["class"], item["release_year"])
    }
    for name, rows in cut_domains(inter, item).items():
        make_dir(folder / name)
        items = sorted(rows["item_id"].unique(), key=int)
        write_atomically(
            folder / name / f"{name}.item",
            _table_lines(["item_id:token", "text:token_seq"], [items, [texts[i] for i in items]]),
        )
        ranks = history_ranks(pd.factorize(rows["user_id"])[0], rows["timestamp"].astype(np.int64).to_numpy())
        header = ["user_id:token", "item_id:token", "timestamp:float", f"{ORIGINAL_TIME}:float", "rating:float"]
        write_atomically(
            folder / name / f"{name}.inter",
            _table_lines(
                header, [rows["user_id"], rows["item_id"], map(str, ranks.tolist()), rows["timestamp"], rows["rating"]]
            ),
        )


def _read(path: Path) -> pd.DataFrame:
    frame = read_columns(path).frame
    return pd.DataFrame({name: frame[name].to_list() for name in frame.columns})


def _describe(title: str, genres: str, year: str) -> str:
    """Title, genres and, where the raw file knows it, the year, as one line of text."""
    return f"{title}. {genres}." + (f" {year}." if year.isdigit() else "")


def _table_lines(header: list[str], columns: list):
    yield "\t".join(header).encode() + b"\n"
    for row in zip(*columns):
        yield "\t".join(row).encode() + b"\n"


def _stamp(raw: Path) -> str:
    digest = hashlib.sha256(repr((RULE, GENRES, SHARES, CORE)).encode())
    for name in ("ml-100k.inter", "ml-100k.item"):
        digest.update((raw / name).read_bytes())
    return digest.hexdigest()[:12]


def _is_complete(folder: Path) -> bool:
    return all((folder / name / f"{name}.{kind}").is_file() for name in GENRES for kind in ("inter", "item"))
