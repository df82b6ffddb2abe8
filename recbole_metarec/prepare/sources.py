"""Which raw files a domain is made from: the user's, those downloaded before, or those at the public addresses."""

from dataclasses import dataclass
from pathlib import Path

from recbole_metarec.config.dataset_files import domain_settings, known_domains
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import cache_dir
from recbole_metarec.prepare.amazon import EDITIONS, published
from recbole_metarec.prepare.containers import members
from recbole_metarec.prepare.download import DownloadError, fetch

_DEFAULT_EDITION = "2018"
_FILE_ENDS = (".gz", ".csv", ".zip", ".json", ".jsonl")


@dataclass(frozen=True)
class RawFiles:
    """reviews, metadata: files on disk. edition: as far as it is known before a file is read. address: of reviews."""

    reviews: Path
    metadata: Path | None = None
    edition: str = ""
    address: str = ""


def find_raw(request) -> RawFiles:
    """The raw files of a Request, fetched if they are not on disk.

    Fetched files are kept in the cache, ``raw/EDITION``; a file that the user puts there is taken as if it had been
    fetched. Raises ConfigError for an edition or category that is not published; DataError, with all addresses and the
    places for the files, if they cannot be fetched.
    """
    if request.raw:
        _check_edition(request.edition, EDITIONS)
        return RawFiles(request.raw, request.metadata, request.edition)
    edition, addresses = _public_addresses(request)
    if not addresses["reviews"].endswith(_FILE_ENDS):
        raise DataError(
            f"{request.name}: {addresses['reviews']} gives its files only to those who agree to its terms; fetch them "
            f"there and say prepare {request.name} --raw FILE --metadata FILE"
        )
    folder = cache_dir() / "raw" / edition
    wanted = {"reviews": addresses["reviews"]}
    if request.with_text and not (request.metadata or request.items):
        wanted["metadata"] = addresses["metadata"]
    places = {part: folder / url.rpartition("/")[2] for part, url in wanted.items()}
    for part, url in wanted.items():
        sha256 = request.sha256 if part == "reviews" else ""
        try:
            fetch(url, places[part], sha256 or str(addresses.get(f"{part}_sha256", "")))
        except DownloadError as error:
            raise DownloadError(f"{error}; {_by_hand(request.name, wanted, places)}") from None
    return RawFiles(places["reviews"], request.metadata or places.get("metadata"), edition, wanted["reviews"])


def beside(raw: Path) -> Path | None:
    """The item texts that come with RecBole's copy of a domain: in the same archive, or NAME.item beside NAME.inter."""
    if any(name.endswith(".item") for name in members(raw)):
        return raw
    item_file = raw.with_suffix(".item")
    return item_file if raw.suffix == ".inter" and item_file.is_file() else None


def _public_addresses(request) -> tuple[str, dict]:
    """(edition, addresses): of a category, or of a named domain."""
    if request.category:
        edition = request.edition or _DEFAULT_EDITION
        _check_edition(edition, EDITIONS)
        return edition, published(edition, request.category)
    source = domain_settings(request.name).get("public_source")
    if source is None:
        near = nearest(request.name, known_domains())
        raise ConfigError(
            f"{request.name} is not a known domain; "
            + (f"did you mean {near}? Else " if near else "")
            + "give its file with --raw, or say with --category which Amazon category it is"
        )
    editions = {str(name): files for name, files in source["editions"].items()}
    edition = request.edition or str(source["edition"])
    if edition not in editions:
        raise ConfigError(f"--edition: {request.name} has no edition {edition}; it has {', '.join(editions)}")
    return edition, editions[edition]


def _check_edition(edition: str, editions: tuple[str, ...]) -> None:
    if edition and edition not in editions:
        raise ConfigError(f"--edition: {edition} is none of {', '.join(editions)}; give one of them")


def _by_hand(name: str, wanted: dict, places: dict) -> str:
    steps = ", ".join(f"{url} to {places[part]}" for part, url in wanted.items() if not places[part].is_file())
    return (
        f"type the command again when there is a connection; or bring {steps} and type it again; or give files from "
        f"elsewhere: prepare {name} --raw FILE [--metadata FILE]; what works without any: recbole-metarec train"
    )
