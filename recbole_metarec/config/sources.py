"""The words that a user gives for source domains, and what cannot be one."""


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
