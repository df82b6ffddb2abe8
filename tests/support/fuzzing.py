"""Drawn values for tests, what every refusal must look like, and walks through the content of a checkpoint."""

import os

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_MORE = os.environ.get("METAREC_FUZZ")


def fuzz(examples: int):
    """Settings of one test: so many examples, or METAREC_FUZZ."""
    return settings(
        max_examples=int(_MORE or examples),
        derandomize=_MORE is None,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def one_line(error: Exception) -> str:
    text = str(error)
    assert "\n" not in text and text.strip() and ("; " in text or ": " in text), text
    return text


@st.composite
def damaged(draw, original: bytes) -> bytes:
    """The bytes with a few places overwritten, left out, put in, or with the end cut off."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        gone = draw(st.sampled_from([0, 1, 1, 3, len(content)]))
        put = draw(st.one_of(st.binary(max_size=3), st.sampled_from([b"", b"\t", b"\n", b"\r", b'"', b"\0", b"\n\n"])))
        content[at : at + gone] = put
    return bytes(content)


_WORDS = st.sampled_from(["auto", "none", "all", "None", "[5,inf)", "NDCG@10", "adam", "meta", "cuda", "a,b"])
_NUMBERS = st.one_of(st.integers(-3, 100), st.integers(), st.floats())
_PLAIN = st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=8), _WORDS)
VALUES = st.recursive(
    _PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=2)),
    max_leaves=4,
)


def same(one, other) -> bool:
    """NaN is itself here: it must come out where it went in."""
    if isinstance(one, torch.Tensor):
        if not isinstance(other, torch.Tensor) or (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        return bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and (one == other or (one != one and other != other))


def leaves(value, path=()):
    """Paths of all that is no dict and no list."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return [path] if inner is None else [leaf for key, part in inner for leaf in leaves(part, (*path, key))]


def parent_of(content: dict, path: tuple):
    for key in path[:-1]:
        content = content[key]
    return content
