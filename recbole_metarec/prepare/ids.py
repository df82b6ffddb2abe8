"""Ids as a raw file writes them, made the same wherever they come from, and which of them cannot be used."""

from collections import Counter

import polars as pl

from recbole_metarec.data.faults import show
from recbole_metarec.data.ids import READ_AS_MISSING

_MISSING = sorted(READ_AS_MISSING)
_WHOLE = r"^(-?[0-9]+)\.0+$"
# a spreadsheet, or a float, has lost the last digits of 1.23457E+12, or of 1,23457E+12; 1E12 may be a name
_ROUNDED = r"^[0-9](?:[.,][0-9]+[eE]\+?|[eE]\+)[0-9]+$"
_NO_VALUE = r"\N"  # what PostgreSQL and MySQL write where there is none
# a space of no width and a byte order mark are no spaces to Unicode, but nobody sees them either
_AROUND = r"^[\s\x{200b}\x{2060}\x{feff}]+|[\s\x{200b}\x{2060}\x{feff}]+$"
_HOSTILE = r'[\t\n\r\x00]|^"'
# all that this module looks at: one search of it is what most files cost
_WORDS = "|".join(map(pl.escape_regex, _MISSING))
_ODD = rf'^["\s\\]|\s$|[\t\n\r\x00]|[^\x00-\x7f]|\.0+$|[0-9][eE]\+?[0-9]+$|^(?:{_WORDS})?$'

TRIMMED, WHOLE, COMPOSED = "trimmed", "whole", "composed"
_TOLD = {
    TRIMMED: "{:,d} ids had spaces around them, which are taken away",
    WHOLE: "{:,d} ids were whole numbers with a fraction of nothing, such as 12.0; they are written as 12",
    COMPOSED: "{:,d} ids were written with decomposed letters; they are composed (Unicode's NFC)",
}


def notes(changes: Counter) -> list[str]:
    """What :func:`cleaned` has changed, in sentences."""
    return [_TOLD[kind].format(changes[kind]) for kind in _TOLD if changes[kind]]


def cleaned(ids: pl.Series, changes: Counter) -> pl.Series:
    """Ids without spaces around them, whole numbers without a fraction, letters composed; ``changes`` counts them.

    Those that are missing, or would be read as something else, are null.
    """
    if not ids.str.contains(_ODD).any():
        return ids
    for kind, change in (
        (TRIMMED, lambda texts: texts.str.replace_all(_AROUND, "")),
        (COMPOSED, lambda texts: texts.str.normalize("NFC")),
        (WHOLE, lambda texts: texts.str.replace(_WHOLE, "$1")),
    ):
        changed = change(ids)
        changes[kind] += int((changed != ids).sum() or 0)
        ids = changed
    return ids.set(ids.is_in(["", _NO_VALUE, *_MISSING]) | ids.str.contains(f"{_HOSTILE}|{_ROUNDED}"), None)


def fault(name: str, value) -> str:
    """What is wrong with an unusable id, as it is written in column ``name``."""
    value = "" if value is None else str(value).strip()
    if not value or value == _NO_VALUE:
        return f"{name} is missing"
    if not _is_unicode(value):
        return f"{name} {value!a} holds half a letter of Unicode"
    if pl.Series([value]).str.contains(_ROUNDED)[0]:
        return f"{name} {show(value)} is a rounded number that has lost its last digits"
    return f"{name} {show(value)} would be read by RecBole as a missing value or a quoted field"


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a surrogate without its other half, which JSON can write
        return False
    return True
