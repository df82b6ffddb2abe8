"""Small raw files in the forms in which the public sets are published; what they say is made up."""

import gzip
import json
import zipfile
from pathlib import Path

from recbole_metarec.prepare.forms import public_form
from recbole_metarec.prepare.rows import RowReader

# user, item, time in seconds, rating, in no order of time; the fifth repeats the first
EVENTS = [
    ("A1QA985ULVCQOB", "B000GKXY4S", 1400000300, 5.0),
    ("A2WNBOD3WNDNKT", "B000GKXY4S", 1400000100, 3.0),
    ("A1QA985ULVCQOB", "0439886341", 1400000100, 4.0),
    ("A2WNBOD3WNDNKT", "0439886341", 1400000100, 1.0),
    ("A1QA985ULVCQOB", "B000GKXY4S", 1400000300, 2.0),
    ("A1QA985ULVCQOB", "B00KCXJY0I", 1400000100, 5.0),
]
# histories of EVENTS: in time, equal times in the order of the file, without the repetition
HISTORIES = {
    "A1QA985ULVCQOB": [("0439886341", 1400000100), ("B00KCXJY0I", 1400000100), ("B000GKXY4S", 1400000300)],
    "A2WNBOD3WNDNKT": [("B000GKXY4S", 1400000100), ("0439886341", 1400000100)],
}


def review_2014(user, item, time, rating) -> dict:
    return {
        "reviewerID": user,
        "asin": item,
        "reviewerName": 'J. "Jay" Dö',
        "helpful": [2, 3],
        "reviewText": "First line.\nIt's {fine}, [really]\u2028and \\ so on",
        "overall": rating,
        "summary": "ok",
        "unixReviewTime": time,
        "reviewTime": "05 13, 2014",
    }


def review_2018(user, item, time, rating) -> dict:
    return {
        "overall": rating,
        "vote": "3",
        "verified": True,
        "reviewTime": "05 13, 2014",
        "reviewerID": user,
        "asin": item,
        "style": {"Size:": " Large", "Color:": " Charcoal"},
        "reviewerName": "Abbey",
        "reviewText": 'He said "no"',
        "summary": "Good",
        "unixReviewTime": time,
    }


def review_2023(user, item, time, rating) -> dict:
    return {
        "rating": rating,
        "title": "Such a lovely scent",
        "text": "This spray is nice.<br />It smells good.",
        "images": [{"small_image_url": "s.jpg", "attachment_type": "IMAGE"}],
        "asin": "B0OTHER123",
        "parent_asin": item,
        "user_id": user,
        "timestamp": time * 1000 + 7,
        "helpful_vote": 0,
        "verified_purchase": True,
    }


def review_yelp(user, item, time, rating) -> dict:
    from datetime import datetime, timezone

    date = datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    return {"review_id": "KU_O", "user_id": user, "business_id": item, "stars": rating, "useful": 0, "date": date}


def json_lines(records, dump=json.dumps) -> bytes:
    return "".join(f"{dump(record)}\n" for record in records).encode()


def reviews(form, events=EVENTS, dump=json.dumps) -> bytes:
    return json_lines((form(*event) for event in events), dump)


def write(path: Path, data: bytes) -> Path:
    """gzipped if the name says so."""
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def ratings(order: str, events=EVENTS, header: str = "") -> bytes:
    """order: of u, i, r, t. Times in milliseconds where there is a header."""
    thousand = 1000 if header else 1
    rows = (dict(u=u, i=i, r=r, t=t * thousand) for u, i, t, r in events)
    return (header + "".join(",".join(str(row[c]) for c in order) + "\n" for row in rows)).encode()


META_2014 = [  # Python dictionaries, single-quoted
    {
        "asin": "B000GKXY4S",
        "title": "Crazy Shot & Co",
        "price": 12.5,
        "imUrl": "http://x/y.jpg",
        "related": {"also_bought": ["B00KCXJY0I"]},
        "salesRank": {"Toys": 5},
        "brand": "Whirl's",
        "categories": [["Toys", "Games"], ["Toys", "Puzzles"]],
    },
    {"asin": "B0NOTHERE0", "title": "unused"},
    {"asin": "0439886341", "description": "no title here", "categories": [["Books"]]},
]
META_2018 = [
    {
        "category": ["Industrial", "Caps &amp; Hats"],
        "tech1": "",
        "description": ["<b>Long</b>"],
        "title": "Hard  <span>Hat</span> &quot;Pro&quot;!",
        "also_buy": ["B0NOTHERE0"],
        "brand": "3M",
        "feature": [],
        "main_cat": "Industrial & Scientific",
        "asin": "B000GKXY4S",
    },
    {"title": "var aPageStart = (new Date()).getTime();", "brand": "Acme", "category": [], "asin": "0439886341"},
    {"title": "a second row of the same item", "brand": "", "category": [], "asin": "B000GKXY4S"},
]
META_2023 = [
    {
        "main_category": "All Beauty",
        "title": "Howard Oil",
        "average_rating": 4.8,
        "features": [],
        "price": None,
        "store": "Howard Products",
        "categories": [],
        "details": {"Brand": "Howard"},
        "parent_asin": "B000GKXY4S",
        "bought_together": None,
    },
    {
        "main_category": None,
        "title": "Book",
        "store": None,
        "categories": ["Books"],
        "parent_asin": "0439886341",
    },
]
TEXTS = {
    "2014": {"B000GKXY4S": "Crazy Shot & Co. Whirl's. Toys, Games, Puzzles.", "0439886341": "Books."},
    "2018": {"B000GKXY4S": 'Hard Hat "Pro"! 3M. Industrial, Caps & Hats.', "0439886341": "Acme."},
    "2023": {"B000GKXY4S": "Howard Oil. Howard Products. All Beauty.", "0439886341": "Book. Books."},
}

ATOMIC = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    + "".join(f"{u}\t{i}\t{r}\t{t}.0\n" for u, i, t, r in EVENTS)
).encode()
ATOMIC_ITEMS = (
    b"item_id:token\tsales_type:token\tcategories:token_seq\ttitle:token\tprice:float\tbrand:token\n"
    b"B000GKXY4S\tToys\tToys Games\tSome toy\t3.5\tWhirl\nB0NOTHERE0\t\t\tunused\t\t\n0439886341\t\tBooks\t\t\t\n"
)


def read(path, form=None, **settings) -> list[tuple]:
    frames = list(RowReader(path, form or public_form(path), **settings).frames())
    return [row for frame in frames for row in frame.rows()]


def zipped(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(f"set/{name.replace('_', '.')}", data)
    return path
