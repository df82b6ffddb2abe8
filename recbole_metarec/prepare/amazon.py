"""Where the editions of the Amazon review data are published, and which categories each has."""

from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import ConfigError

EDITIONS = ("2014", "2018", "2023")
_2014 = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
_2018 = "https://jmcauley.ucsd.edu/data/amazon_v2"
_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
_FILES = {
    "2014": (f"{_2014}/reviews_{{}}_5.json.gz", f"{_2014}/meta_{{}}.json.gz"),
    "2018": (f"{_2018}/categoryFilesSmall/{{}}_5.json.gz", f"{_2018}/metaFiles2/meta_{{}}.json.gz"),
    "2023": (f"{_2023}/benchmark/5core/rating_only/{{}}.csv.gz", f"{_2023}/raw/meta_categories/meta_{{}}.jsonl.gz"),
}
_IN_ALL = """Automotive Books CDs_and_Vinyl Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music
Electronics Grocery_and_Gourmet_Food Home_and_Kitchen Kindle_Store Movies_and_TV Musical_Instruments Office_Products
Patio_Lawn_and_Garden Pet_Supplies Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games"""
_ONLY = {
    "2014": "Amazon_Instant_Video Apps_for_Android Baby Beauty Health_and_Personal_Care",
    "2018": """AMAZON_FASHION All_Beauty Appliances Arts_Crafts_and_Sewing Gift_Cards Industrial_and_Scientific
    Luxury_Beauty Magazine_Subscriptions Prime_Pantry Software""",
    "2023": """All_Beauty Amazon_Fashion Appliances Arts_Crafts_and_Sewing Baby_Products Beauty_and_Personal_Care
    Gift_Cards Handmade_Products Health_and_Household Health_and_Personal_Care Industrial_and_Scientific
    Magazine_Subscriptions Software Subscription_Boxes Unknown""",
}


def categories(edition: str) -> tuple[str, ...]:
    """The categories of an edition, sorted."""
    return tuple(sorted(f"{_IN_ALL} {_ONLY[edition]}".split()))


def published(edition: str, category: str) -> dict[str, str]:
    """category, reviews and metadata as a domain's YAML has them. Raises ConfigError, with the nearest category."""
    if category not in categories(edition):
        near = nearest(category, categories(edition))
        advice = f"did you mean {near}?" if near else f"there are {', '.join(categories(edition))}"
        raise ConfigError(f"--category: the {edition} edition has no {category}; {advice}")
    reviews, metadata = (address.format(category) for address in _FILES[edition])
    return {"category": category, "reviews": reviews, "metadata": metadata}
