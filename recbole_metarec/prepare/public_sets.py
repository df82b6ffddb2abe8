"""Public sets whose files do not say what they are: read as their pages describe them, with ``--form NAME``.

None is fetched: each page states terms that a user agrees to. The file of items is taken if it is beside the events.
A set is one entry of ``PUBLIC_SETS``; ``tests/prepare/test_public_sets.py`` holds a hand-written piece of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import ConfigError
from recbole_metarec.prepare.forms import ITEM, RATING, TIME, USER, Form, own_form

_MOVIE_COLUMNS = {ITEM: "movieId", "text 0": "title", "text 1": "genres"}


@dataclass(frozen=True)
class PublicSet:
    """events: the form of its file of events. items_file, items: the published name and the form of that of items,
    whose other roles are texts; none where it has no texts. page: where it is published."""

    page: str
    events: Form
    items_file: str = ""
    items: Form | None = None

    def items_beside(self, events: Path) -> Path | None:
        """The file of items in the folder of the events, also packed; None if there is none."""
        names = (self.items_file, f"{self.items_file}.gz") if self.items_file else ()
        return next((path for path in map(events.with_name, names) if path.is_file()), None)


def _plain(names: Sequence[str], user: str, item: str, time: str, rating: str = "", **more) -> Form:
    """Columns between separators."""
    columns = {USER: user, ITEM: item, TIME: time, **({RATING: rating} if rating else {})}
    return Form("separated", columns, names=tuple(names), **more)


PUBLIC_SETS = {
    "ml-1m": PublicSet(
        "https://grouplens.org/datasets/movielens/1m",
        _plain(("user", "item", "rating", "time"), "user", "item", "time", "rating", separator="::"),
        "movies.dat",
        Form("separated", _MOVIE_COLUMNS, names=tuple(_MOVIE_COLUMNS.values()), separator="::", encoding="latin-1"),
    ),
    "ml-20m": PublicSet(
        "https://grouplens.org/datasets/movielens/20m",
        Form("separated", {USER: "userId", ITEM: "movieId", TIME: "timestamp", RATING: "rating"}, header=True),
        "movies.csv",
        Form("separated", _MOVIE_COLUMNS, header=True),
    ),
    "steam": PublicSet(
        "https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data",
        Form("json", {USER: "username", ITEM: "product_id", TIME: "date"}),
        "steam_games.json",
        Form("json", {ITEM: "id", "text 0": "app_name", "text 1": "developer", "text 2": "genres", "text 3": "tags"}),
    ),
    "yelp": PublicSet(
        "https://business.yelp.com/data/resources/open-dataset",
        Form("json", {USER: "user_id", ITEM: "business_id", TIME: "date", RATING: "stars"}, edition="latest"),
        "yelp_academic_dataset_business.json",
        Form("json", {ITEM: "business_id", "text 0": "name", "text 1": "categories"}),
    ),
    "taobao": PublicSet(
        "https://tianchi.aliyun.com/dataset/649",
        _plain(("user", "item", "category", "behavior", "time"), "user", "item", "time"),
    ),
    "retailrocket": PublicSet(
        "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
        Form("separated", {USER: "visitorid", ITEM: "itemid", TIME: "timestamp"}, header=True),
    ),
    "yoochoose": PublicSet(
        "https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015",
        _plain(("session", "time", "item", "category"), "session", "item", "time"),
    ),
    "lastfm": PublicSet(  # an item is an artist, by name: one of five has no other id
        "http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html",
        _plain(
            ("user", "time", "artist_id", "artist", "track_id", "track"), "user", "artist", "time", separator="\t",
            plain_quotes=True,
        ),
    ),
    "hm": PublicSet(
        "https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations",
        Form("separated", {USER: "customer_id", ITEM: "article_id", TIME: "t_dat"}, header=True),
        "articles.csv",
        Form(
            "separated",
            {ITEM: "article_id", "text 0": "prod_name", "text 1": "product_type_name", "text 2": "detail_desc"},
            header=True,
        ),
    ),
    "mind": PublicSet(  # clicks of the impressions: the history before them has no times
        "https://msnews.github.io",
        _plain(
            ("impression", "user", "time", "history", "impressions"), "user", "impressions", "time", separator="\t",
            time_format="%m/%d/%Y %I:%M:%S %p", picked=r"(\S+)-1(?:\s|$)",
        ),
        "news.tsv",
        Form(
            "separated",
            {ITEM: "news", "text 0": "title", "text 1": "category", "text 2": "subcategory"},
            names=("news", "category", "subcategory", "title", "abstract", "url", "entities", "abstract_entities"),
            separator="\t",
        ),
    ),
}  # fmt: skip


def form_of(form: Form, path: Path) -> Form:
    """The form of a file of a set, with the columns that its header names. Raises DataError for another header."""
    return own_form(path, form.columns) if form.header else form


def public_set(name: str) -> PublicSet:
    """The set of this name. Raises ConfigError, with the nearest name, if there is none."""
    if name.lower() not in PUBLIC_SETS:
        near = nearest(name.lower(), PUBLIC_SETS)
        guess = f"did you mean {near}?" if near else f"use one of {', '.join(PUBLIC_SETS)}"
        raise ConfigError(f"--form: {name} is no public set that is known here; {guess}")
    return PUBLIC_SETS[name.lower()]
