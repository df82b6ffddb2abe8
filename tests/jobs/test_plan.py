"""What a comparison plans for each model, and that a planned run, its command and its guard mean what they say."""

import json
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.fake_runs import found_by
from support.worlds import PLAIN, TINY, cluster_histories, write_domain, write_items, write_shop

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole_metarec.cli import main as cli
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.jobs.competitors import COMPETITORS, competitors, default_models
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.plan import Tuned, guards_p, make_plan, with_guards
from recbole_metarec.jobs.train import train
from recbole_metarec.jobs.worker import read_result
from recbole_metarec.quick_start import run_experiment

pytestmark = pytest.mark.usefixtures("without_pictures")

SMALL = {key: value for key, value in TINY.items() if key not in ("seed", "vq_heads", *PLAIN)}
START, DAY = 1_500_000_000, 86400
QUIET = {"state": "ERROR", "device": "cpu"}


@pytest.fixture(scope="module")
def given(shop):
    return {**SMALL, **QUIET, "data_path": str(shop), "sources": ["Near", "Far"], "vq_heads": 2}


def plan_of(names: str, given, seeds=(7,), **kwargs) -> list[PlannedRun]:
    return make_plan(competitors(names.split(",")), "Target", seeds, given, **kwargs)


def keys(plan) -> dict:
    return {run.title: run.key for run in plan}


def test_every_model_has_every_seed_the_first_seeds_first(given):
    plan = plan_of("Pop,LRURec,SASRec,MetaRec", given, seeds=(7, 8))
    assert [run.title for run in plan] == [
        f"{m} seed {s}" for s in (7, 8) for m in ("Pop", "LRURec", "SASRec", "MetaRec")
    ]
    assert len(set(keys(plan).values())) == len({run.folder for run in plan}) == 8
    assert keys(plan) == keys(plan_of("Pop,LRURec,SASRec,MetaRec", given, seeds=(7, 8))), (
        "planned again, it is the same"
    )


def test_all_are_under_one_protocol(given):
    plan = plan_of("Pop,GRU4Rec,SASRec,BERT4Rec,LRURec,Joint,Pretrain,MetaRec", given)
    for key in ("MAX_ITEM_LIST_LENGTH", "eval_args", "metrics", "topk", "valid_metric", "epochs", "stopping_step",
                "loss_type", "train_neg_sample_args", "repeatable", "load_col", "metric_decimal_place"):  # fmt: skip
        first, *others = ({k: v for k, v in run.config[key].items() if k != "mode"} if key == "eval_args"
                          else run.config[key] for run in plan)  # fmt: skip
        assert all(other == first for other in others), key
    widths = {run.model: run.config[COMPETITORS[run.model].spec.width_key] for run in plan if run.model != "Pop"}
    assert set(widths.values()) == {TINY["embedding_size"]}


def test_a_key_reaches_those_that_read_it_and_makes_only_theirs_other_runs(given):
    names = "Pop,SASRec,LRURec,MetaRec"
    before = keys(plan_of(names, given))
    heads = keys(plan_of(names, {**given, "vq_heads": 4}))
    assert {title for title in before if before[title] != heads[title]} == {"MetaRec seed 7"}
    rate = keys(plan_of(names, {**given, "learning_rate": 0.02}))
    assert {title for title in before if before[title] != rate[title]} >= {"SASRec seed 7", "LRURec seed 7"}
    tuned = plan_of(names, given, tuned={"LRURec": Tuned({"dropout_prob": 0.3}, trials=20)})
    assert [run.trials for run in tuned] == [0, 0, 20, 0]
    assert {title for title in before if before[title] != keys(tuned)[title]} == {"LRURec seed 7"}


def test_a_key_that_nobody_reads_is_a_mistake(given):
    with pytest.raises(ConfigError, match="--vq_heads: none of SASRec, LRURec reads vq_heads; "):
        plan_of("SASRec,LRURec", {key: value for key, value in given.items() if key != "sources"})
    no_sources = {key: value for key, value in given.items() if key not in ("sources", "vq_heads", "dropout_prob")}
    (run,) = plan_of("SASRec", {**no_sources, "embedding_size": 12})
    assert run.config["hidden_size"] == 12, "d is read by all, whatever it is called"
    with pytest.raises(ConfigError, match="dropout_prob is 2"):
        plan_of("LRURec", {"data_path": given["data_path"], "dropout_prob": 2})


def test_other_data_make_other_runs_of_those_that_read_them(tmp_path, given):
    shop = write_shop(tmp_path)
    mine = {**given, "data_path": str(shop)}
    names = "LRURec,MetaRec"
    before = keys(plan_of(names, mine))
    assert before == keys(plan_of(names, given)), "the same files elsewhere are the same data"
    write_domain(shop, "Far", cluster_histories(4, 40, 20, 4, 0.0))
    after = keys(plan_of(names, mine))
    assert {title for title in before if before[title] != after[title]} == {"MetaRec seed 7"}
    fewer = keys(plan_of(names, {**mine, "sources": ["Near"]}))
    assert {title for title in after if after[title] != fewer[title]} == {"MetaRec seed 7"}
    write_domain(shop, "Target", cluster_histories(9, 50, 24, 4, 0.8))
    assert not set(keys(plan_of(names, mine)).values()) & set(after.values())


def test_sources_without_text_columns_are_left_out_aloud(tmp_path, given, caplog):
    shop = write_shop(tmp_path)
    mine = {key: value for key, value in given.items() if key != "vq_heads"} | {"data_path": str(shop)}
    for name in ("Target", "Near"):
        write_items(shop, name, {0: "red hat", 1: "blue hat"})
    write_items(shop, "Far", {0: "red hat"}, column="title")
    plan = plan_of("UniSRec,UniSRec-text", mine, seeds=(7, 8))
    assert all(run.sources == run.config["sources"] == run.overrides["sources"] == ["Near"] for run in plan)
    assert all("--sources Near" in run.command and not any("Far" in file for file in run.data_files) for run in plan)
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(said) == 1 and said[0].startswith("source Far is left out: ")
    assert "Far.item: there is no column text, only item_id, title; " in said[0]
    (run,) = plan_of("UniSRec", mine | {"text_columns": ["title"], "sources": ["Far"]})
    assert run.sources == ["Far"], "the columns are those that the run reads"
    (shop / "Near" / "Near.item").unlink()
    (run,) = plan_of("UniSRec", mine)
    assert run.sources == [] and "source Near is left out" in caplog.text and "Near.item: no such file" in caplog.text


@pytest.mark.parametrize(
    "names, message",
    [
        ("LRURrec", "--models: unknown model LRURrec; did you mean LRURec?"),
        ("sasrec", "--models: unknown model sasrec; did you mean SASRec?"),
        ("Zzz", "--models: unknown model Zzz; the models are Pop, "),
        ("LRURec,LRURec", "--models: LRURec is given twice; "),
        ("LRURec,", "--models: an empty name; "),
    ],
)
def test_names_that_are_no_model(names, message):
    with pytest.raises(ConfigError) as caught:
        competitors(names.split(","))
    assert str(caught.value).startswith(message)


def test_the_default_leaves_out_models_of_texts_where_there_are_none(monkeypatch):
    monkeypatch.setattr("recbole_metarec.jobs.competitors.DEFAULT_MODELS", ("Pop", "FDSA", "MetaRec"))
    assert [model.name for model in default_models(has_text=True)] == ["Pop", "FDSA", "MetaRec"]
    assert [model.name for model in default_models(has_text=False)] == ["Pop", "MetaRec"]


def test_another_model_of_recbole_stands_for_itself():
    (model,) = competitors(["NARM"])
    assert (model.experiment, model.is_baseline, model.spec.takes_sources) == ("NARM", True, False)


def test_models_of_attributes_are_told_the_columns_of_the_item_file(tmp_path, given):
    mine = {key: value for key, value in {**SMALL, **QUIET}.items() if key != "dropout_prob"}
    mine["data_path"] = str(write_shop(tmp_path))
    with pytest.raises(DataError, match=r"Target\.item: there is no such file"):
        plan_of("FDSA", mine)
    items = tmp_path / "Target/Target.item"
    items.write_text("item_id:token\tprice:float\n")
    with pytest.raises(DataError, match=r"Target\.item:1: no column of type"):
        plan_of("FDSA", mine)
    items.write_text("item_id:token\tbrand:token\tprice:float\tclass:token_seq\ttext:token_seq\n")
    (run,) = plan_of("FDSA", mine)
    assert run.config["selected_features"] == ["class", "text"]
    assert run.config["load_col"] == {
        "inter": ["user_id", "item_id", "timestamp"],
        "item": ["item_id", "class", "text"],
    }
    (s3,) = plan_of("S3Rec", {**mine, "pretrain_epochs": 3})
    assert (s3.config["item_attribute"], s3.config["pretrain_epochs"]) == ("class", 3)
    items.write_text("item_id:token\tbrand:token\n")
    (again,) = plan_of("FDSA", mine)
    assert again.data != run.data and again.config["selected_features"] == ["brand"]


@pytest.mark.parametrize("model", ["FDSA", "S3Rec"])
def test_the_item_file_of_a_model_of_attributes_may_be_written_as_the_config_says(tmp_path, given, model):
    """In another encoding, with another separator, and with another name for the column of items."""
    write_shop(tmp_path)
    events = tmp_path / "Target/Target.inter"
    events.write_text(events.read_text().replace("item_id", "sku").replace("\t", "|"), encoding="latin-1")
    items = dict.fromkeys(line.split("|")[1] for line in events.read_text().splitlines()[1:])
    lines = ["sku:token|marque:token", *(f"{item}|caf\xe9" for item in items)]
    (tmp_path / "Target/Target.item").write_text("\n".join(lines) + "\n", encoding="latin-1")
    mine = {key: value for key, value in {**SMALL, **QUIET}.items() if key not in ("dropout_prob", "n_layers")}
    mine |= {"data_path": str(tmp_path), "encoding": "latin-1", "field_separator": "|", "ITEM_ID_FIELD": "sku"}
    mine |= {"load_col": {"inter": ["user_id", "sku", "timestamp"]}}
    mine |= {"pretrain_epochs": 1} if model == "S3Rec" else {}
    (run,) = plan_of(model, mine)
    assert run.config["load_col"]["item"] == ["sku", "marque"]
    assert 0 <= done(run).test["ndcg@10"] <= 1


def done(run: PlannedRun):
    Path(run.folder).mkdir(parents=True)
    return read_result(run, train(run))[0]


def test_a_planned_run_its_file_and_its_command_are_one_run(given, tmp_path):
    """What a worker finds is what the user finds who types the command that is shown."""
    (run,) = plan_of("MetaRec", given)
    run.write(tmp_path / "run.json")
    assert PlannedRun.read(tmp_path / "run.json").key == run.key
    ours = done(PlannedRun.read(tmp_path / "run.json"))
    program, *words = shlex.split(run.command)
    assert program == "recbole-metarec"
    assert cli.main([*words, f"--checkpoint_dir={tmp_path / 'again'}"]) == 0
    (metrics,) = (tmp_path / "again").glob("*/metrics.json")
    theirs = json.loads(metrics.read_text())
    assert (theirs["valid"], theirs["test"], theirs["parameters"]) == (ours.valid, ours.test, ours.parameters)
    assert [row["epoch"] for row in ours.history] == [0, 1, 2] and ours.history[-1]["valid_score"] is not None


@pytest.mark.parametrize("split", ["leave one out", "by time"])
def test_the_guard_that_is_worked_out_is_the_guard_that_is_trained(given, tmp_path, split):
    """Also by the validation rows of users who have no test row."""
    if split == "by time":
        shops, random = tmp_path / "shops", np.random.default_rng(5)
        for name, seed in (("Target", 1), ("Near", 2), ("Far", 3)):
            made = cluster_histories(seed, 50, 24, 4, 0.8)
            days = [np.sort(random.integers(0, 100, len(items))) * DAY + START for items in made]
            write_domain(shops, name, made, [each.tolist() for each in days])
        given = given | {"data_path": str(shops), "eval_args": {"split": {"TS": [START + 60 * DAY, START + 80 * DAY]}}}
    plan = plan_of("LRURec,MetaRec", given)
    results = [done(run) for run in plan]
    assert bool(results[0].only_valid) == (split == "by time")
    without, ours = with_guards(competitors(["LRURec", "MetaRec"]), plan, results)
    assert without.guarded_test is None
    overrides = {**plan[1].overrides, "transfer_guard": True, "seed": 7, "checkpoint_dir": str(tmp_path / "guarded")}
    guard = run_experiment("MetaRec", "Target", overrides=overrides).metrics["guard"]
    assert guard["p"] == guards_p(ours, without)
    assert guard["no_transfer_test"] == without.test and guard["transfer_test"] == ours.test
    assert guard["no_transfer_test_unseen"] == without.unseen.test
    assert guard["transfer_test_unseen"] == ours.unseen.test != ours.test
    assert ours.unseen.guarded_test == guard["no_transfer_test_unseen" if guard["fired"] else "transfer_test_unseen"]
    assert ours.guarded_test == guard["no_transfer_test" if guard["fired"] else "transfer_test"]


def test_a_guard_needs_the_very_model_without_transfer(given):
    """Both verdicts, and none where LRURec differs, was not compared, or has another seed."""
    plan = plan_of("LRURec,MetaRec", given, seeds=(7, 8))
    models = competitors(["LRURec", "MetaRec"])
    results = [_result(run, rank) for run, rank in zip(plan, (2, 3, 2, 1), strict=True)]
    guarded = with_guards(models, plan, results)
    assert [r.guarded_test for r in guarded] == [None, results[0].test, None, results[3].test]
    unseen = [r.unseen.test for r in results]
    assert [r.unseen.guarded_test for r in guarded] == [None, unseen[0], None, unseen[3]]
    assert with_guards(models, plan, results[1:2])[0].guarded_test is None
    tuned = plan_of("LRURec,MetaRec", given, tuned={"LRURec": Tuned({"dropout_prob": 0.3}, 5)})
    assert with_guards(models, tuned, results[:2])[1].guarded_test is None
    few = [_result(run, rank, users=3) for run, rank in zip(plan, (2, 1), strict=False)]
    assert with_guards(models, plan, few)[1].guarded_test == few[0].test, "a higher mean of three users shows nothing"


def test_the_published_models_are_guarded_by_their_own_baseline(given):
    """MetaRec-plain by LRURec-plain, MetaRec by LRURec, whichever else is compared."""
    names = "LRURec,LRURec-plain,MetaRec,MetaRec-plain"
    models, plan = competitors(names.split(",")), plan_of(names, given)
    results = [_result(run, rank) for run, rank in zip(plan, (3, 1, 2, 2), strict=True)]
    guarded = with_guards(models, plan, results)
    assert [found.guarded_test for found in guarded] == [None, None, results[2].test, results[1].test]
    alone = [plan[1], plan[2]], [results[1], results[2]]
    assert with_guards(models, *alone)[1].guarded_test is None
    off = plan_of(names, given | PLAIN)
    assert [run.key for run in off] == [plan[n].key for n in (1, 1, 3, 3)]


def _result(run, rank, users=40):
    """Of users whose held-out item on validation has this rank, but for one, who has no validation row."""
    found = found_by(run, users)
    return replace(found, valid_ranks=np.where(found.test_users == "u0", 0, rank))


def test_popularity_counts_training_events_alone(shop, tmp_path):
    """Against a count by hand from the file; ties take the middle of their places."""
    overrides = {**SMALL, **QUIET, "data_path": str(shop), "seed": 7, "checkpoint_dir": str(tmp_path)}
    run_dir = run_experiment("SequentialPop", "Target", overrides=overrides).run_dir
    histories: dict[str, list[str]] = {}
    for line in (shop / "Target/Target.inter").read_text().splitlines()[1:]:
        user, item, _ = line.split("\t")
        histories.setdefault(user, []).append(item)
    counts = Counter(item for history in histories.values() for item in history[:-2])
    items = {item for history in histories.values() for item in history}
    expected, unseen = {}, {}
    for user, history in histories.items():
        own = counts[history[-1]]
        for ranks, rivals in ((expected, items), (unseen, items - set(history))):
            others = [counts[item] for item in rivals - {history[-1]}]
            ranks[user] = 1 + sum(n > own for n in others) + (others.count(own) + 1) // 2
        if history[-1] in history[:-1]:  # a repeat is missed where seen items are removed
            unseen[user] = len(items) + 1
    (run,) = plan_of("Pop", {**QUIET, "data_path": str(shop)})
    result, _ = read_result(run, run_dir)
    assert dict(zip(result.test_users.tolist(), result.test_ranks.tolist(), strict=True)) == expected
    assert dict(zip(result.test_users.tolist(), result.unseen.test_ranks.tolist(), strict=True)) == unseen
    ranks = np.array(list(expected.values()))
    assert result.test["ndcg@10"] == pytest.approx(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean(), abs=1e-6)


def test_d_is_the_same_for_every_model_of_recbole(given):
    """Some of RecBole's models call it embedding_size, the Transformers hidden_size."""
    names = "GRU4Rec,SASRec,NARM,GCSAN,SASRecF,LightSANs,LRURec,MetaRec"
    wide = {run.model: run.config for run in plan_of(names, {**given, "embedding_size": 32})}
    for model in ("GRU4Rec", "NARM", "LRURec"):
        assert wide[model]["embedding_size"] == 32
    for model in ("SASRec", "GCSAN", "SASRecF", "LightSANs"):
        assert wide[model]["hidden_size"] == 32
    assert wide["GRU4Rec"]["hidden_size"] == 128  # of its recurrence, no item vector
