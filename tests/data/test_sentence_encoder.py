"""Item texts by a real sentence-transformers folder: a small one made here, or METAREC_TEXT_MODEL."""

import os

import numpy as np
import pytest

from recbole_metarec.data.text_vectors import TextSpace, encode_domains

library = pytest.importorskip("sentence_transformers", reason="needs sentence-transformers (recbole-metarec[text])")
TEXTS = [["", "red wool scarf", "blue wool hat", "guitar strings", "red guitar", ""]]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "wool", "scarf", "hat", "guitar", "strings"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    if "METAREC_TEXT_MODEL" in os.environ:
        return os.environ["METAREC_TEXT_MODEL"]
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    words, model = tmp_path_factory.mktemp("words"), tmp_path_factory.mktemp("model")
    (words / "vocab.txt").write_text("\n".join(WORDS))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(words)
    BertTokenizer(str(words / "vocab.txt")).save_pretrained(words)
    library.SentenceTransformer(modules=[Transformer(str(words)), Pooling(16)]).save(str(model))
    return str(model)


def test_vectors_point_where_the_models_own_do(folder):
    own = library.SentenceTransformer(folder, device="cpu").encode(TEXTS[0][1:5], normalize_embeddings=True)
    encoded = encode_domains(TEXTS[0], [], TextSpace(folder, own.shape[1]), 0.0).target
    assert not encoded[[0, 5]].any(), "an item without a text has no direction"
    directions = encoded[1:5] / np.linalg.norm(encoded[1:5], axis=1, keepdims=True)
    np.testing.assert_allclose(directions, own, atol=1e-5)
