"""Item texts as vectors, by an encoder that needs no download or by any sentence-transformers model.

Encoders see texts and never an event. Their vectors are fixed features; what is learned comes after them.
"""

import functools
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import numpy as np

from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import cache_dir, make_dir, write_atomically
from recbole_metarec.randomness import numpy_stream

TFIDF = "tfidf"
RULE = 1  # to be raised when the same texts give other vectors than before


@dataclass(frozen=True)
class TextVectors:
    """Text vectors of the target, of each source, and of each source after words were dropped: float32 [n, w].

    Rows follow item ids; padding and items without text are zero, every other row has the length sqrt(w).
    """

    target: np.ndarray
    sources: tuple[np.ndarray, ...] = ()
    dropped: tuple[np.ndarray, ...] = ()

    @property
    def digest(self) -> str:
        """Changes with any of the vectors."""
        digest = hashlib.sha256()
        for vectors in (self.target, *self.sources, *self.dropped):
            digest.update(repr(vectors.shape).encode() + vectors.tobytes())
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class TextSpace:
    """What makes vectors of texts. width: of the vectors.

    encoder: ``tfidf`` or the name or folder of a sentence-transformers model.
    of: whose texts decide which words and directions there are, ``target`` or ``all`` domains. With ``target`` no
    source can change how the target's own texts are read.
    whitening: whether every direction is brought to the same variance, or keeps the one that the texts give it.
    """

    encoder: str
    width: int
    of: str = "target"
    whitening: bool = False


def encode_domains(
    target: list[str],
    sources: Sequence[list[str]],
    space: TextSpace,
    drop_ratio: float | None,
    device: str = "cpu",
) -> TextVectors:
    """Vectors of the texts of all domains in one space, from the cache where they are there.

    drop_ratio: None makes no vectors with words dropped. device: of a sentence-transformers model.
    Raises ConfigError if the encoder cannot be had, DataError if no text holds a word.
    """
    encoder, n_domains = os.path.expanduser(space.encoder), 1 + len(sources)
    n_fitted = n_domains if space.of == "all" else 1
    texts = [
        target,
        *sources,
        *(drop_words(source, drop_ratio) for source in (sources if drop_ratio is not None else ())),
    ]
    if encoder == TFIDF:
        from sklearn import __version__  # another release may give other vectors

        key = cache_key(TFIDF, __version__, space.width, space.whitening, n_fitted, *texts)
        ends = np.cumsum([len(domain) for domain in texts])
        joined = _cached(key, int(ends[-1]), lambda: np.concatenate(_tfidf(texts, n_fitted, space)))
        vectors = np.split(joined, ends[:-1])
    else:
        identity, model = model_identity(encoder), functools.cache(lambda: _sentence_model(encoder, device))
        raw = [
            _cached(cache_key(identity, domain), len(domain), lambda domain=domain: _sentence_vectors(model(), domain))
            for domain in texts
        ]
        vectors = _reduced(raw, n_fitted, space)
    vectors = _on_sphere(texts, vectors)
    return TextVectors(vectors[0], tuple(vectors[1:n_domains]), tuple(vectors[n_domains:]))


def drop_words(texts: list[str], ratio: float, seed: int = 0) -> list[str]:
    """Each text without the words that chance drops, each with probability ``ratio``; one word always stays.

    Drawn by the texts alone unless a seed is given, as the paper's augmented vectors are made once and for all: runs of
    other seeds share what an encoder made of them.
    """
    random = numpy_stream(seed, "word drop", ratio, cache_key(texts))
    dropped = []
    for text in texts:
        words = text.split()
        kept = random.random(len(words)) >= ratio
        if words and not kept.any():
            kept[int(random.integers(len(words)))] = True
        dropped.append(" ".join(word for word, keep in zip(words, kept.tolist(), strict=True) if keep))
    return dropped


def cache_key(*parts) -> str:
    """A digest of words, numbers and lists of texts, which changes with any of them or with their order."""
    digest = hashlib.sha256(str(RULE).encode())
    for part in parts:
        for text in part if isinstance(part, list) else [repr(part)]:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        digest.update(b"\xff" * 8)  # no text is so long
    return digest.hexdigest()[:32]


def model_identity(encoder: str) -> str:
    """What a sentence-transformers model is known by in the cache: its name, or a digest of its folder's content."""
    folder = Path(encoder)
    if not folder.is_dir():
        return encoder
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _cached(key: str, rows: int, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array float32 [rows, m] under ``key``; computed and stored if it is not there or cannot be read."""
    path = make_dir(cache_dir() / "texts") / f"{key}.npy"
    try:
        vectors = np.load(path, allow_pickle=False)
        if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != rows:
            raise ValueError(f"it holds {vectors.dtype} {vectors.shape}")
        return vectors
    except FileNotFoundError:
        pass
    except Exception as error:  # a damaged file makes numpy raise almost anything
        getLogger().warning(f"{path}: cannot be read ({error}); made anew")
    vectors = np.ascontiguousarray(compute(), dtype=np.float32)
    packed = io.BytesIO()
    np.save(packed, vectors)
    write_atomically(path, [packed.getvalue()])
    return vectors


def _tfidf(texts: list[list[str]], n_fitted: int, space: TextSpace) -> list[np.ndarray]:
    from sklearn.feature_extraction.text import TfidfVectorizer  # heavy, needed by one model alone

    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english", dtype=np.float32)
    try:
        vectorizer.fit([text for domain in texts[:n_fitted] for text in domain if text])
    except ValueError as error:
        raise DataError(f"the item texts hold no word that could be counted ({error}); check text_columns") from None
    return _reduced([vectorizer.transform(domain) for domain in texts], n_fitted, space)


def _sentence_vectors(model, texts: list[str]) -> np.ndarray:
    getLogger().info(f"encoding {len(texts)} item texts")
    return model.encode(texts, convert_to_numpy=True, show_progress_bar=False)


def _sentence_model(encoder: str, device: str):
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(
            f"text_encoder: {encoder} needs sentence-transformers ({error}); pip install 'recbole-metarec[text]', or "
            f"use {TFIDF}"
        ) from None
    try:
        return SentenceTransformer(encoder, device=device)
    except Exception as error:  # whatever the library and its hub raise, the user's remedy is the same
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"text_encoder: {encoder} cannot be loaded ({reason}); give the name or the folder of a "
            f"sentence-transformers model, or use {TFIDF}"
        ) from error


def _reduced(features: list, n_fitted: int, space: TextSpace) -> list[np.ndarray]:
    """Features [n, m] (dense or sparse) as [n, width]: wider ones by truncated SVD, narrower ones padded with zeros.

    The SVD is fitted on the first ``n_fitted`` domains, of which the first, the target, counts as much as all others
    together: with every item counting alike, large sources leave a small target hardly any direction of its own.
    """
    width = space.width
    if features[0].shape[1] > width:
        from scipy.sparse import csr_matrix
        from scipy.sparse import vstack as stacked
        from sklearn.decomposition import TruncatedSVD

        shares = [0.5, *[0.5 / (n_fitted - 1)] * (n_fitted - 1)] if n_fitted > 1 else [1.0]
        weighted = [csr_matrix(rows * np.sqrt(share / rows.shape[0])) for rows, share in zip(features, shares)]
        svd = TruncatedSVD(width, random_state=0).fit(stacked(weighted))
        spread = svd.singular_values_
        scale = 1.0 / np.maximum(spread, 1e-30) if space.whitening else np.ones_like(spread)
        scale = np.where(spread > 1e-5 * spread.max(), scale, 0.0)
        features = [svd.transform(rows) * scale for rows in features]
    dense = [rows if isinstance(rows, np.ndarray) else rows.toarray() for rows in features]
    return [np.pad(rows, ((0, 0), (0, width - rows.shape[1]))).astype(np.float32) for rows in dense]


def _on_sphere(texts: list[list[str]], vectors: list[np.ndarray]) -> list[np.ndarray]:
    """Vectors of all domains at the length sqrt(w), or zero: without a text, or with one that none of the directions
    knows, of which rounding leaves a rest that is nothing beside the vectors' root mean square."""
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in vectors]
    least = 1e-4 * np.sqrt(np.mean(np.concatenate(lengths) ** 2))
    scaled = []
    for domain, size, rows in zip(texts, lengths, vectors, strict=True):
        known = (size > least) & np.array([bool(text) for text in domain])[:, None]
        scale = np.sqrt(rows.shape[1]) / np.where(known, size, 1.0)
        scaled.append(np.where(known, rows * scale, 0.0).astype(np.float32))
    return scaled
