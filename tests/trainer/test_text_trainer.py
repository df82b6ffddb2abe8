"""Whole runs of UniSRec: what texts are worth on unseen items, and that runs stop, go on, are saved and are refused."""

import logging
import shutil

import numpy as np
import pytest
import torch
from support.text_worlds import cluster_texts, write_text_shop
from support.worlds import TINY, Run, cluster_histories, equal, without_seconds, write_domain, write_items

# isort: split
import recbole.quick_start

from recbole_metarec.cli import main as cli
from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.data.item_texts import NoTextError
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.errors import CheckpointError
from recbole_metarec.serve import Recommender

MODES = ("text", "text_and_id")
SMALL = {key: value for key, value in TINY.items() if key != "vq_heads"} | {
    "text_width": 8, "adaptor_experts": 2, "pretrain_epochs": 2, "pretrain_batch_size": 64, "sources": ["Near", "Bare"],
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_text_shop(tmp_path_factory.mktemp("domains"))


def run(shop, saved=False, fit=True, **given) -> Run:
    made = Run(shop, model="UniSRec", **(SMALL | given))
    return made.fit(saved=saved) if fit else made


def test_text_finds_items_that_nobody_has_met(tmp_path):
    """Each history ends in an item of the right cluster that occurs nowhere else: only its text can tell.

    The control has the same texts at the wrong items.
    """
    histories = cluster_histories(5, 150, 48, 6, 0.95, length=(6, 10))
    for user, history in enumerate(histories):
        history.append(48 + (history[-1] + 1) % 6 + 6 * (user % 8))
    write_domain(tmp_path, "Target", histories)
    write_domain(tmp_path, "Near", cluster_histories(6, 150, 60, 6, 0.95))
    write_items(tmp_path, "Near", cluster_texts(6, 60, 6))
    right = cluster_texts(5, 96, 6)
    wrong = dict(enumerate(np.random.default_rng(0).permutation(list(right.values())).tolist()))
    sizes = {"embedding_size": 16, "text_width": 24, "epochs": 8, "learning_rate": 0.01, "dropout_prob": 0.1,
             "adaptor_dropout_prob": 0.0, "sources": ["Near"], "train_batch_size": 256}  # fmt: skip
    median = {}
    for name, texts in (("right", right), ("wrong", wrong)):
        write_items(tmp_path, "Target", texts)
        made = run(tmp_path, item_vectors="text", **sizes)
        median[name] = np.median(made.trainer.rank(made.test))
    # of 96 items chance ranks 48th; 16 belong to the cluster
    assert median["right"] < 16 and median["wrong"] > 30, median


def test_sources_without_text_are_left_out_aloud(shop, caplog):
    with caplog.at_level(logging.WARNING):
        made = run(shop)
    assert [source.name for source in made.train.dataset.sources] == ["Near"]
    assert "source Bare is left out" in caplog.text and "from scratch" not in caplog.text
    assert [row["epoch"] for row in made.trainer.log.history] == [-2, -1, 0, 1, 2]
    with caplog.at_level(logging.WARNING):
        alone = run(shop, sources=["Bare"])
    assert "no source has item texts: UniSRec starts on the target from scratch" in caplog.text
    assert [row["epoch"] for row in alone.trainer.log.history] == [0, 1, 2]
    assert equal(alone.weights(), run(shop, sources="none").weights())
    assert run(shop, pretrain_epochs=0, fit=False).train.dataset.sources == ()
    assert not equal(alone.weights(), made.weights())


def test_a_target_without_text_is_refused_before_anything_is_written(shop, tmp_path, capsys):
    argv = ["train", "--model", "UniSRec", "--dataset", "Bare", "--data_path", str(shop), "--sources", "none"]
    assert cli.main(argv) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "Bare.item: no such file" in errors[0]
    assert not (tmp_path / "saved").exists()
    with pytest.raises(NoTextError, match=r"Bare\.item: no such file"):
        run(shop, dataset="Bare", sources=["Near"])


def test_pretraining_leaves_the_targets_own_vectors_and_a_frozen_encoder_stays_as_it_left_it(shop):
    before = run(shop, fit=False).weights()
    pretrained = run(shop, epochs=0).weights()
    frozen, moved = run(shop, frozen_encoder=True).weights(), run(shop).weights()
    encoder = [name for name in before if name.startswith("encoder.") and name.endswith("weight")]
    assert torch.equal(pretrained["item_embedding.weight"], before["item_embedding.weight"])
    assert not torch.equal(pretrained["adaptor.whitening"], before["adaptor.whitening"])
    for name in encoder:
        assert not torch.equal(pretrained[name], before[name])
        assert torch.equal(frozen[name], pretrained[name]) and not torch.equal(moved[name], pretrained[name])
    assert not torch.equal(frozen["adaptor.whitening"], pretrained["adaptor.whitening"])
    assert not torch.equal(frozen["item_embedding.weight"], pretrained["item_embedding.weight"])


def test_the_target_starts_with_an_optimiser_of_its_own(shop):
    """What pre-training's optimiser remembers is gone: the weights alone are handed on."""
    pretrained = run(shop, epochs=0).weights()
    fresh = run(shop, fit=False)
    fresh.model.load_state_dict(pretrained)
    fresh.trainer.pretrained = 2
    assert equal(fresh.fit(saved=False).weights(), run(shop).weights())


class Stopped(Exception):
    pass


@pytest.mark.parametrize("passes", [1, 2, 3, 5])
def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(shop, passes):
    """Stopped after so many passes, the first two of which are over the sources."""
    whole = run(shop, saved=True, epochs=4)
    first = run(shop, fit=False, epochs=4)

    def stop():
        if len(first.trainer.log.history) == passes:
            raise Stopped

    first.trainer.log.on_change = stop
    with pytest.raises(Stopped):
        first.fit()
    rest = run(shop, fit=False, epochs=4)
    torch.manual_seed(99)  # another process has drawn other numbers so far
    rest.trainer.resume_checkpoint(first.trainer.saved_model_file)
    rest.fit()
    assert equal(rest.weights(), whole.weights()) and rest.best_score == whole.best_score
    assert without_seconds(rest.trainer.log.history) == without_seconds(whole.trainer.log.history)


def test_a_run_cannot_go_on_in_another_space_of_texts(shop, tmp_path):
    """Other sources, or the same sources with other texts, give the same words other vectors."""
    first = run(shop, saved=True, epochs=1).trainer.saved_model_file
    for given, what in (
        ({"sources": "none"}, r"sources is \['Near'\], not \[\]"),
        ({"text_width": 8, "drop_ratio": 0.4}, "text_vectors is"),
    ):
        other = run(shop, fit=False, **given)
        other.trainer.resume_checkpoint(first)
        with pytest.raises(CheckpointError, match=what):
            other.fit()
    shutil.copytree(shop, tmp_path / "shop")
    alone = run(shop, saved=True, epochs=1, sources="none").trainer.saved_model_file
    for name, saved, sources in (("Target", first, ["Near"]), ("Near", first, ["Near"]), ("Target", alone, "none")):
        file = tmp_path / "shop" / name / f"{name}.item"
        before = file.read_text()
        file.write_text(before.replace("kind3", "kind2"))
        other = run(tmp_path / "shop", fit=False, sources=sources)
        other.trainer.resume_checkpoint(saved)
        with pytest.raises(CheckpointError, match="text_vectors is .*; resume with the config and the data"):
            other.fit()
        file.write_text(before)


def test_steps_train_with_dropout_and_read_the_texts_without_words(shop):
    made = run(shop, fit=False, contrast_weight=1.0, word_drop_share=1.0)
    trainer = made.trainer
    trainer._set_up(made.train)
    mixture = trainer.mixture
    sources, target = mixture.batches.batch(mixture.batches.plan(0)[0]), next(iter(made.train))

    def step(seed, of_sources):
        made.model.eval()  # as an evaluation leaves it
        torch.manual_seed(seed)
        batch = sources if of_sources else made.model.batch_of(target)
        return (trainer._contrast(batch) if of_sources else trainer._one_step(batch, None)).loss

    for of_sources in (True, False):
        assert step(1, of_sources) == step(1, of_sources) != step(2, of_sources)
    before = step(1, True)
    mixture.dropped = mixture.dropped.flip(1)
    assert step(1, True) != before, "its second views were read from these"


@pytest.mark.parametrize("mode", MODES)
def test_a_saved_model_scores_alike_without_texts_or_sources(tmp_path, mode):
    histories = cluster_histories(1, 50, 24, 4, 0.8)
    for name in ("Target", "Near"):
        write_domain(tmp_path, name, histories)
        write_items(tmp_path, name, cluster_texts(1, 24, 4))
    made = run(tmp_path, saved=True, item_vectors=mode, sources=["Near"])
    expected = made.trainer.evaluate(made.test)
    ranks = made.trainer.rank(made.test)
    history = [f"Target-{item}" for item in histories[0][:5]]
    for file in (
        tmp_path / "Near" / "Near.inter",
        tmp_path / "Near" / "Near.item",
        tmp_path / "Target" / "Target.item",
    ):
        file.unlink()
    config, model, _, _, _, test = recbole.quick_start.load_data_and_model(made.trainer.saved_model_file)
    trainer = recbole.quick_start.quick_start.get_trainer(config["MODEL_TYPE"], "UniSRec")(config, model)
    assert trainer.evaluate(test, load_best_model=False) == expected
    np.testing.assert_array_equal(trainer.rank(test), ranks)
    recommender = Recommender.load(made.trainer.saved_model_file)
    best = recommender.recommend(history, k=24, include_seen=True)
    numbers = torch.tensor([[made.dataset.token2id("item_id", item) for item in history]])
    with torch.no_grad():
        scores = model.eval().score(model.forward(numbers, torch.tensor([5])))[0]
    assert len(best) == 24 and all(
        score == pytest.approx(float(scores[made.dataset.token2id("item_id", item)]), abs=1e-4) for item, score in best
    )


def test_several_domains_as_one_keep_every_history():
    stores = [SequenceStore.from_events(np.repeat([4, 9], [3, 2]), np.array([2, 1, 2, 3, 3]), 4),
              SequenceStore.from_events(np.repeat([1, 2], [2, 4]), np.array([1, 4, 2, 2, 3, 1]), 5)]  # fmt: skip
    joined = SequenceStore.joined(stores)
    assert joined.n_items == 1 + 3 + 4
    own = [joined.items[start:end].tolist() for start, end in zip(joined.offsets, joined.offsets[1:], strict=False)]
    assert own == [[2, 1, 2], [3, 3], [4, 7], [5, 5, 6, 4]]
    assert joined.users.tolist() == [0, 1, 2, 3]


def test_batches_of_pretraining_mix_the_sources_and_read_their_own_texts(tmp_path):
    for seed, name in enumerate(("Target", "Near", "Next")):
        write_domain(tmp_path, name, cluster_histories(seed, 60, 24 + seed, 4, 0.8))
        write_items(tmp_path, name, cluster_texts(seed, 24 + seed, 4))
    made = run(tmp_path, sources=["Near", "Next"], fit=False)
    made.trainer._set_up(made.train)
    mixture, dataset = made.trainer.mixture, made.train.dataset
    near, following = dataset.sources
    for rows in mixture.batches.plan(0):
        batch: SequenceBatch = mixture.batches.batch(rows)
        of_near = batch.inputs[batch.inputs > 0] < near.store.n_items
        assert 0.2 < of_near.float().mean() < 0.8
    assert len(mixture.texts) == near.store.n_items + following.store.n_items - 1 == mixture.batches.store.n_items
    vectors = dataset.text_vectors
    at = near.store.n_items - 1
    assert torch.equal(mixture.texts[1 : at + 1], torch.from_numpy(vectors.sources[0][1:]))
    assert torch.equal(mixture.dropped[at + 1 :], torch.from_numpy(vectors.dropped[1][1:]))
    assert not mixture.texts[0].any()


def test_real_domains_bring_texts_for_every_item(data_dir):
    made = Run(data_dir, model="UniSRec", dataset="Office", sources=["Scientific"])
    texts = made.train.dataset.texts
    assert len(texts) == made.dataset.item_num and all(texts[1:]) and texts[0] == ""
    assert all(made.train.dataset.sources[0].texts[1:])
