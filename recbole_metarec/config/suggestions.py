"""Words in messages, and the words that a user gives for source domains."""

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


def source_names(sources) -> list[str] | str:
    """``auto`` or the list of source names of a ``sources`` value.

    ``none``, None and empty text are no source; ``A,B`` and a list are split into names. The names are not checked.
    """
    if isinstance(sources, str):
        word = sources.strip()
        if word.lower() == "auto":
            return "auto"
        sources = [] if word.lower() in ("", "none") else word.split(",")
    return [name.strip() for name in sources or ()]


def source_fault(names: list[str], target: str | None) -> tuple[str, str] | None:
    """(problem, advice) if a source is named twice or is the target itself; None if neither."""
    for name in names:
        if names.count(name) > 1:
            return f"source {name} is given twice", "name each source once"
        if name == target:
            return f"the target {name} is among its sources", f"remove {name} from sources or choose another dataset"
    return None
