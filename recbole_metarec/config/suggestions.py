"""Words in messages: the nearest to one that is wrong, and a value in short."""

import difflib
from collections.abc import Iterable

_FEW = 1000  # to compare a word with more would take longer than whatever the mistake is in


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The one of ``words`` most like ``word``, letter case aside; None if nothing is near.

    Of very many words, such as the names of a catalogue, only those with the same beginning or the same end count: one
    wrong letter leaves one of the two as it was.
    """
    word, folded = str(word).lower(), {}
    for candidate in words:
        folded.setdefault(candidate.lower(), candidate)
    candidates = list(folded) if len(folded) <= _FEW else _with_an_equal_half(word, folded)
    matches = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def _with_an_equal_half(word: str, words: Iterable[str]) -> list[str]:
    half = max(1, (len(word) - 1) // 2)
    begin, end = word[:half], word[-half:]
    return [candidate for candidate in words if candidate.startswith(begin) or candidate.endswith(end)]


def show(value) -> str:
    """A value in a message: one line, not too long; text as it was typed."""
    text = " ".join((value if isinstance(value, str) and value else repr(value)).split())
    return text if len(text) <= 60 else text[:57] + "..."
