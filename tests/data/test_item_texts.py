"""Item texts as they are read, and what encoders and their cache make of them."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from recbole_metarec.data.item_texts import NoTextError, read_item_texts
from recbole_metarec.data.text_vectors import TextSpace, cache_key, drop_words, encode_domains, model_identity
from recbole_metarec.data.text_vectors import _reduced as reduced
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import cache_dir

ITEMS = ["[PAD]", "b", "a", "c"]
TARGET = ["", "red shoe leather", "blue shoe canvas", "blue hat wool", ""]
SOURCE = ["", "green hat felt", "red scarf wool", "green scarf silk"]


pytestmark = pytest.mark.usefixtures("fresh_cache")


def read(path, *lines, columns=("text",)):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_item_texts(path, ITEMS, columns, "item_id", "\t", "utf-8")


# --- reading -----------------------------------------------------------------------------------------------------


def test_texts_come_in_the_order_of_the_item_ids(tmp_path, caplog):
    path = tmp_path / "Shop.item"
    lines = ("item_id:token\ttext:token_seq\tbrand:token", "a\tblaue Mütze\tX", "b\tred hat\t", "z\tnobody's\tY")
    assert read(path, *lines) == ["", "red hat", "blaue Mütze", ""]
    assert "Shop: 1 of 3 items have no text" in caplog.text
    assert read(path, *lines, columns=("brand", "text")) == ["", "red hat", "X blaue Mütze", ""]


def test_no_text_and_bad_text_are_told_apart(tmp_path):
    path = tmp_path / "Shop.item"
    header = "item_id:token\ttext:token_seq"
    for lines in (("item_id:token\ttitle:token_seq", "a\that"), (header, "x\tof another shop"), (header, "a\t")):
        with pytest.raises(NoTextError, match=r"Shop\.item"):
            read(path, *lines)
    with pytest.raises(NoTextError, match=r"there is no column text, only item_id, title; .*text_columns"):
        read(path, "item_id:token\ttitle:token_seq", "a\that")
    path.unlink()
    with pytest.raises(NoTextError, match=r"Shop\.item: no such file, so Shop has no item texts; write one"):
        read_item_texts(path, ITEMS, ["text"], "item_id", "\t", "utf-8")
    for lines, where in (
        ((header, "a\that\textra"), ":2: 3 fields"),
        ((header, "a\that", "b\tx", "a\tcap"), ":4: item"),
    ):
        with pytest.raises(DataError, match=where) as caught:
            read(path, *lines)
        assert not isinstance(caught.value, NoTextError)


def test_quotation_marks_are_part_of_a_text_but_not_of_an_items_name(tmp_path):
    path = tmp_path / "Shop.item"
    header = "item_id:token\ttext:token_seq\tbrand:token"
    assert read(path, header, 'a\t"The ""big"" hat\t"X', "b\tcap\tY") == ["", "cap", '"The ""big"" hat', ""]
    with pytest.raises(DataError, match=r"Shop\.item:3: item_id .* starts with a quotation mark"):
        read(path, header, "b\tcap\tY", '"a"\that\tX')


# --- vectors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [3, 40])
def test_vectors_lie_on_a_sphere_and_what_has_no_text_is_zero(width):
    found = encode_domains(TARGET, [SOURCE], TextSpace("tfidf", width, "all"), 0.2)
    assert found.target.shape == (5, width) and found.sources[0].shape == found.dropped[0].shape == (4, width)
    for texts, vectors in ((TARGET, found.target), (SOURCE, found.sources[0])):
        assert vectors.dtype == np.float32
        lengths = np.linalg.norm(vectors, axis=1)
        np.testing.assert_allclose(lengths, [np.sqrt(width) if text else 0.0 for text in texts], rtol=1e-5)


def test_tfidf_keeps_the_cosines_of_hand_counted_words():
    """Wide enough for every word, nothing is reduced: cosines of (1 + log tf) * idf, smoothed as scikit-learn does."""
    texts = ["", "red red shoe", "red hat", "shoe hat lace"]
    found = encode_domains(texts, [], TextSpace("tfidf", 10), 0.2).target
    idf = {word: 1 + np.log(4 / (1 + n)) for word, n in {"red": 2, "shoe": 2, "hat": 2, "lace": 1}.items()}
    words = ["red", "shoe", "hat", "lace"]
    by_hand = np.array([[(1 + np.log(text.split().count(w))) * idf[w] if w in text.split() else 0.0 for w in words]
                        for text in texts[1:]])  # fmt: skip
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(found[1:] @ found[1:].T / 10, by_hand @ by_hand.T, atol=1e-5)


def test_directions_have_equal_variance_with_half_of_it_the_targets():
    """Sum over domains of share / n * Z^T Z is the identity; the components span the weighted data's leading ones."""
    random = np.random.default_rng(0)
    features = [random.standard_normal((n, 9)) @ random.standard_normal((9, 9)) for n in (7, 400, 30, 5)]
    found = reduced(features, 3, TextSpace("any", 4, "all", whitening=True))
    shares = (0.5, 0.25, 0.25)
    moment = sum(share / len(own) * own.T.astype(float) @ own for share, own in zip(shares, found, strict=False))
    np.testing.assert_allclose(moment, np.eye(4), atol=1e-3)
    weighted = sum(share / len(own) * own.T @ own for share, own in zip(shares, features, strict=False))
    leading = np.linalg.eigh(weighted)[1][:, -4:]
    for own, vectors in zip(features, found, strict=True):  # the fourth domain is transformed, not fitted
        inside = own @ leading
        fit = np.linalg.lstsq(inside, vectors, rcond=None)[0]
        np.testing.assert_allclose(inside @ fit, vectors, atol=1e-2)


def test_without_whitening_the_leading_part_of_every_inner_product_is_kept():
    """X P X^T with P the projection onto the directions that hold most of the target: nothing is stretched."""
    random = np.random.default_rng(0)
    features = [random.standard_normal((n, 9)) @ np.diag(2.0 ** -np.arange(9)) for n in (40, 6)]
    found = np.concatenate(reduced(features, 1, TextSpace("any", 4)))
    leading = np.linalg.svd(features[0])[2][:4]
    rows = np.concatenate(features)
    np.testing.assert_allclose(found @ found.T, rows @ leading.T @ leading @ rows.T, atol=1e-4)


@pytest.mark.parametrize("whitening", [False, True])
def test_no_source_changes_how_the_target_is_read_unless_the_space_is_of_all(whitening):
    sources = [SOURCE, ["", "red leather shoe", "wool wool"]]
    own, all_domains = (TextSpace("tfidf", 3, of, whitening) for of in ("target", "all"))
    alone = encode_domains(TARGET, [], own, 0.2).target
    np.testing.assert_array_equal(encode_domains(TARGET, sources, own, 0.2).target, alone)
    assert not np.allclose(encode_domains(TARGET, sources, all_domains, 0.2).target, alone, atol=1e-3)


def test_a_source_is_read_by_the_words_of_the_target():
    found = encode_domains(TARGET, [["", "felt", "red scarf", "red"]], TextSpace("tfidf", 10), 0.2).sources[0]
    assert not found[:2].any()
    np.testing.assert_allclose(found[2], found[3], rtol=1e-6)


def test_a_text_that_no_direction_knows_has_no_vector():
    """Its words stand nowhere else and were cut off: rounding leaves 1e-10 of them, which is not a direction."""
    random = np.random.default_rng(0)
    source = ["", *(" ".join(f"w{word}" for word in random.integers(0, 40, 5)) for _ in range(900)), "zyx yxz"]
    target = ["", *(f"w{i % 7} w{i % 11}" for i in range(30))]
    found = encode_domains(target, [source], TextSpace("tfidf", 8, "all", whitening=True), 0.2)
    assert not found.sources[0][-1].any() and not found.dropped[0][-1].any()
    for vectors in (found.target[1:], found.sources[0][1:-1]):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), np.sqrt(8), rtol=1e-5)


def test_a_large_source_does_not_blur_a_small_target():
    target = ["", *(f"own{i % 3} own{3 + i % 3}" for i in range(9))]
    source = ["", *(f"other{i % 40} other{i % 37} other{i % 31}" for i in range(2000))]
    found = encode_domains(target, [source], TextSpace("tfidf", 8, "all", whitening=True), 0.2).target[1:]
    cosines = found @ found.T / 8
    same = np.arange(9)[:, None] % 3 == np.arange(9) % 3
    assert cosines[same].min() > 0.99 and cosines[~same].max() < 0.5


def test_domains_share_one_space_and_each_text_is_encoded_alike_wherever_it_stands():
    found = encode_domains(TARGET, [["", "blue shoe canvas", "red scarf"]], TextSpace("tfidf", 4), 0.0)
    np.testing.assert_allclose(found.target[2], found.sources[0][1], atol=1e-5)
    np.testing.assert_allclose(found.dropped[0], found.sources[0], atol=1e-5)


def test_texts_without_a_word_are_refused():
    with pytest.raises(DataError, match="hold no word"):
        encode_domains(["", "1 2", "the"], [], TextSpace("tfidf", 4), 0.2)


def test_dropped_words_leave_the_rest_in_order_and_one_at_least():
    texts = ["", *(" ".join(f"w{i}" for i in range(n)) for n in range(1, 60))]
    found = drop_words(texts, 0.4)
    for before, after in zip(texts, found, strict=True):
        rest = iter(before.split())
        assert all(word in rest for word in after.split())
        assert bool(after) == bool(before)
    total = sum(len(text.split()) for text in texts)
    assert sum(len(text.split()) for text in found) / total == pytest.approx(0.6, abs=0.08)
    assert drop_words(texts, 0.4) == found and drop_words(texts, 0.0) == texts


# --- the cache ---------------------------------------------------------------------------------------------------


def test_a_key_changes_with_whatever_changes_the_vectors():
    cases = [("tfidf", 3, ["a", "b"]), ("tfidf", 4, ["a", "b"]), ("other", 3, ["a", "b"]), ("tfidf", 3, ["b", "a"]),
             ("tfidf", 3, ["ab", ""]), ("tfidf", 3, ["a"], ["b"]), ("tfidf", 3, ["a", "b"], [])]  # fmt: skip
    assert len({cache_key(*case) for case in cases}) == len(cases)
    assert cache_key(*cases[0]) == cache_key("tfidf", 3, ["a", "b"])


def test_a_local_model_is_known_by_its_content(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_bytes(b"1")
    before = model_identity(str(folder))
    (folder / "weights").write_bytes(b"2")
    assert model_identity(str(folder)) != before
    assert model_identity("all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"


class Calls(list):
    """The lists of texts that were encoded, and the names of the models that were opened."""

    def __init__(self):
        super().__init__()
        self.opened = []


@pytest.fixture
def library(monkeypatch):
    """A stand-in for sentence-transformers: a text's vector is its length and its letters; calls are recorded."""
    calls = Calls()

    class SentenceTransformer:
        def __init__(self, name, device=None):
            calls.opened.append(name)
            if name == "absent":
                raise OSError("no such model\nand a long story")

        def encode(self, texts, **_):
            calls.append(list(texts))
            return np.array([[len(t) + 1.0, t.count("e"), t.count("r"), t.count("o")] for t in texts], np.float64)

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=SentenceTransformer))
    return calls


def test_each_domain_is_encoded_once_for_all_runs(library):
    first = encode_domains(TARGET, [SOURCE], TextSpace("some-model", 6), 0.2)
    assert len(library) == 3  # the source twice: as it is and with words dropped
    again = encode_domains(TARGET, [SOURCE], TextSpace("some-model", 6), 0.2)
    assert len(library) == 3
    np.testing.assert_array_equal(again.target, first.target)
    np.testing.assert_allclose(np.linalg.norm(first.target, axis=1), [0, *[np.sqrt(6)] * 3, 0], rtol=1e-5)
    assert not first.target[:, 4:].any()
    encode_domains(TARGET, [SOURCE, SOURCE[:3]], TextSpace("some-model", 6), 0.2)
    assert len(library) == 5  # only what is new: the second source, as it is and with words dropped
    encode_domains([*TARGET[:-1], "new"], [], TextSpace("some-model", 6), 0.2)
    assert len(library) == 6
    encode_domains(TARGET, [], TextSpace("another-model", 6), 0.2)
    assert len(library) == 7
    assert encode_domains(TARGET, [SOURCE], TextSpace("some-model", 2), 0.2).target.shape == (
        5,
        2,
    )  # reduced, not encoded anew
    assert len(library) == 7


def test_another_release_of_scikit_learn_has_another_key(monkeypatch):
    for version in ("1", "2", "2"):
        monkeypatch.setattr("sklearn.__version__", version)
        encode_domains(TARGET, [SOURCE], TextSpace("tfidf", 3), 0.2)
    assert len(list((cache_dir() / "texts").glob("*.npy"))) == 2


def test_a_model_in_the_home_folder_is_found(library, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    encode_domains(TARGET, [], TextSpace("~/model", 6), 0.2)
    encode_domains(TARGET, [], TextSpace(str(tmp_path / "model"), 6), 0.2)
    assert library.opened == [str(tmp_path / "model")], "known by its content, opened by its whole name"


def saved(array, save=np.save) -> bytes:
    packed = io.BytesIO()
    save(packed, array)
    return packed.getvalue()


WHOLE = saved(np.zeros((5, 4), np.float32))
DAMAGED = {
    "cut": WHOLE[:50],
    "empty": b"",
    "header": WHOLE.replace(b"(5, 4)", b"(5, 4("),
    "archive": b"PK\x03\x04" + WHOLE,
    "several": saved(np.zeros((5, 4), np.float32), np.savez),
    "objects": saved(np.array([{}] * 5)),
    "rows": saved(np.zeros((4, 4), np.float32)),
    "flat": saved(np.zeros(5, np.float32)),
    "type": saved(np.zeros((5, 4))),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_cache_file_is_made_anew(library, damage, caplog):
    first = encode_domains(TARGET, [], TextSpace("some-model", 6), 0.2).target
    (file,) = (cache_dir() / "texts").glob("*.npy")
    file.write_bytes(DAMAGED[damage])
    np.testing.assert_array_equal(encode_domains(TARGET, [], TextSpace("some-model", 6), 0.2).target, first)
    assert len(library) == 2 and f"{file}: cannot be read (" in caplog.text
    encode_domains(TARGET, [], TextSpace("some-model", 6), 0.2)
    assert len(library) == 2


def test_an_encoder_that_cannot_be_had_is_one_line(library, monkeypatch):
    with pytest.raises(ConfigError, match=r"^text_encoder: absent cannot be loaded \(no such model\); give ") as caught:
        encode_domains(TARGET, [], TextSpace("absent", 6), 0.2)
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(
        ConfigError, match=r"^text_encoder: some-model needs sentence-transformers .*recbole-metarec\[text\]"
    ):
        encode_domains(TARGET, [], TextSpace("some-model", 6), 0.2)
