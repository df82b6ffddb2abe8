"""What ablations and sweeps plan: which keys each run differs by, what it is held against, and what is run once."""

import shlex
from pathlib import Path

import pytest
from support.worlds import PLAIN, TINY, write_items, write_shop

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole_metarec.cli import main as cli
from recbole_metarec.cli import sweep as cli_sweep
from recbole_metarec.compare.settings import (
    TargetSubsets,
    check_values,
    parse_grid,
    read_share,
    settings,
    target_subsets,
)
from recbole_metarec.compare.study import ablation, sweep
from recbole_metarec.compare.variants import VARIANTS, chosen_variants
from recbole_metarec.config.rules import check_config
from recbole_metarec.config.schema import default_values, keys_in
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.jobs.competitors import competitors
from recbole_metarec.jobs.plan import Tuned, make_plan
from recbole_metarec.prepare.subsets import chosen_users

SEEDS = (7, 8)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = write_shop(tmp_path_factory.mktemp("shop"))
    small = {key: value for key, value in TINY.items() if key not in ("seed", "vq_heads", *PLAIN)}
    return {**small, "state": "ERROR", "device": "cpu", "data_path": str(folder), "sources": ["Near", "Far"]}


pytestmark = pytest.mark.usefixtures("fresh_cache")


def config_of(run) -> dict:
    return {key: value for key, value in run.config.items() if key not in keys_in("machine", "repetition")}


def leaderboard(name: str, given, **kwargs):
    (model,) = competitors([name])
    given = {key: value for key, value in given.items() if key != "sources" or model.spec.takes_sources}
    return make_plan([model], "Target", SEEDS, given, **kwargs)


def whole(given) -> TargetSubsets:
    return target_subsets(1, "Target", given, SEEDS)


def keys(runs) -> list[str]:
    return [run.key for run in runs]


# What each variant is in the paper's words, by the config keys that make it.
WANTED = {
    "full": {}, "none": {}, "no-vq": {"vq_heads": 0}, "one-head": {"vq_heads": 1}, "joint": {"meta_transfer": "joint"},
    "pretrain": {"meta_transfer": "pretrain"}, "uniform": {"gradient_rescaling": "uniform"},
    "similarity": {"gradient_rescaling": "similarity"}, "paper-sign": {"rescale_sign": "paper"},
    "aligned-sign": {"rescale_sign": "aligned"}, "second-order": {"second_order": True},
    "first-order": {"second_order": False}, "no-codebook-loss": {"codebook_weight": 0},
    "no-commitment-loss": {"commitment_weight": 0}, "codebook-gradient-loss": {"codebook_gradient": "loss"},
    "codebook-gradient-both": {"codebook_gradient": "both"}, "no-memory": {"item_memory": False},
    "no-seen-offset": {"seen_offset": False}, "plain": {"item_memory": False, "seen_offset": False},
}  # fmt: skip


# -- ablations -------------------------------------------------------------------------------------------------------


def test_every_variant_differs_from_the_full_model_in_exactly_the_keys_it_names(given):
    assert VARIANTS.keys() == WANTED.keys()
    variants = [variant for variant in VARIANTS.values() if variant.name != "none"]
    experiment = ablation([*variants, VARIANTS["none"]], whole(given))
    full = config_of(experiment.arms[0].runs[0])
    for variant, arm in zip(variants, experiment.arms):
        own = config_of(arm.runs[0])
        assert own.keys() == full.keys()
        different = {key: own[key] for key in own if own[key] != full[key]}
        wanted = WANTED[variant.name]
        assert different == {key: value for key, value in wanted.items() if full[key] != value}, variant.name
        assert arm.runs[0].sources == ["Near", "Far"] and [run.seed for run in arm.runs] == list(SEEDS)
        check_config({**default_values("MetaRec"), **variant.changes}, {})


def test_full_none_joint_and_pretrain_are_the_leaderboards_own_runs(given):
    experiment = ablation(chosen_variants(None, given), whole(given))
    arms = {arm.model: arm for arm in experiment.arms}
    for variant, model in (("full", "MetaRec"), ("none", "LRURec"), ("joint", "Joint"), ("pretrain", "Pretrain")):
        assert keys(arms[variant].runs) == keys(leaderboard(model, given))
    assert experiment.arms[0].model == "full" and experiment.arms[-1].model == "none"


def test_each_variant_is_held_against_the_full_model_and_none_and_the_references_of_a_seed_come_first(given):
    experiment = ablation(chosen_variants(["uniform", "one-head"], given), whole(given))
    assert experiment.columns == ("full", "none")
    assert experiment.against == ((None, 3), (0, 3), (0, 3), (0, None))
    assert [run.title for run in experiment.plan] == [
        f"{name} seed {seed}" for seed in SEEDS for name in ("full", "none", "uniform", "one-head")
    ]
    assert [arm.guarded for arm in experiment.arms] == [True, True, True, False]


def test_variants_that_are_the_full_model_are_left_out_and_their_opposites_come_in(given):
    names = [variant.name for variant in chosen_variants(None, given)]
    assert {"uniform", "paper-sign", "second-order", "no-vq"} <= set(names)
    assert not {"similarity", "aligned-sign", "first-order"} & set(names)
    turned = [variant.name for variant in chosen_variants(None, {**given, "gradient_rescaling": "uniform"})]
    assert "similarity" in turned and "uniform" not in turned


def test_variants_of_ones_own(given):
    own = chosen_variants(["temperature=1", "vq_heads=8+codebook_gradient=loss"], given)[1:-1]
    assert [variant.changes for variant in own] == [{"temperature": 1}, {"vq_heads": 8, "codebook_gradient": "loss"}]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["unifrom"], "--variants: unknown variant unifrom; did you mean uniform?"),
        ([""], "--variants: unknown variant (empty); use some of full, "),
        (["uniform", "uniform"], "--variants: uniform is given twice; "),
        (["similarity"], "--variants: similarity is the full model (gradient_rescaling=similarity); leave it out"),
        (["temperature=0.05"], "--variants: temperature=0.05 is the full model (temperature=0.05); "),
        (["full", "none"], "--variants: nothing to compare; name some of no-vq, "),
        (["temprature=1"], "--variants: unknown config key temprature; did you mean temperature?"),
        (["temperature=0"], "--variants: temperature is 0; use a float > 0"),
        (["vq_heads=3"], "--variants: vq_heads is 3, which does not divide embedding_size"),
        (["meta_transfer=joint"], "--variants: meta_transfer cannot make a variant of MetaRec; "),
        (["hidden_size=8"], "--variants: hidden_size cannot make a variant of MetaRec; "),
    ],
)  # fmt: skip
def test_what_is_no_variant_is_said(names, message, given):
    with pytest.raises(ConfigError) as refused:
        chosen_variants(names, given)
    assert str(refused.value).startswith(message)


def test_variants_start_from_what_tuning_has_found_for_metarec(given):
    tuned = {"MetaRec": Tuned({"dropout_prob": 0.1}, 5), "LRURec": Tuned({"dropout_prob": 0.3}, 5)}
    experiment = ablation(chosen_variants(["joint", "uniform"], given), whole(given), tuned)
    assert [arm.runs[0].config["dropout_prob"] for arm in experiment.arms] == [0.1, 0.1, 0.1, 0.3]
    assert {run.trials for run in experiment.plan} == {5}


def test_an_ablation_of_subsamples_has_another_one_for_each_seed_and_commands_that_make_them(given, fresh_cache):
    experiment = ablation(chosen_variants(["one-head"], given), target_subsets(0.5, "Target", given, SEEDS))
    assert experiment.name == "ablate Target-users50"
    for arm in experiment.arms:
        assert [run.dataset for run in arm.runs] == ["Target-users50-2", "Target-users50"]
    words = experiment.arms[1].runs[1].command.split()
    assert words[:5] == ["recbole-metarec", "sweep", "target_users=0.5", "--models", "MetaRec"]
    assert {"--vq_heads=1", "--seed=8", "Target", "Near,Far"} <= set(words)


def test_with_texts_on_both_sides_every_run_reads_them_and_what_they_are_decides_whether_it_is_done(given):
    texts = {**given, "text_alignment": True, "text_width": 8}
    with pytest.raises(
        DataError, match="Target.item: no such file, and item texts are asked for; leave out text_alignment"
    ):
        ablation(chosen_variants(["uniform"], texts), whole(texts))
    folder = Path(given["data_path"])
    write_items(folder, "Target", {n: f"thing {n}" for n in range(12)})
    try:
        runs = ablation(chosen_variants(["uniform"], texts), whole(texts)).plan
        assert {run.config["text_alignment"] for run in runs} == {True}
        assert all(any(file.endswith("Target.item") for file in run.data_files) for run in runs)
        assert all(run.data != own.data for run in runs for own in leaderboard("LRURec", given))
    finally:
        (folder / "Target/Target.item").unlink()


# -- sweeps ----------------------------------------------------------------------------------------------------------


def swept(grid: str, given, models="MetaRec", tuned=None, share="1"):
    key, values = parse_grid(grid)
    check_values(key, values, "Target", given)
    subsets = target_subsets(read_share(share, key, "Target", given), "Target", given, SEEDS)
    return sweep(key, settings(key, values, subsets), competitors(models.split(",")), subsets, tuned)


def arms_of(experiment) -> dict:
    return {arm.name: arm for arm in experiment.arms}


def test_a_key_of_transfer_alone_leaves_one_reference_for_all_values(given):
    experiment = swept("temperature=0.02,1", given)
    arms = arms_of(experiment)
    assert list(arms) == ["LRURec", "MetaRec[0.02]", "MetaRec[1]"]
    assert keys(arms["LRURec"].runs) == keys(leaderboard("LRURec", given))
    assert [arm.x for arm in experiment.arms] == [None, 0.02, 1.0]
    assert experiment.against == ((None,), (0,), (0,)) and len(experiment.plan) == 6
    for value in (0.02, 1):
        assert keys(arms[f"MetaRec[{value}]"].runs) == keys(leaderboard("MetaRec", {**given, "temperature": value}))


def test_a_key_that_the_reference_reads_too_is_varied_on_both_sides(given):
    experiment = swept("dropout_prob=0.1,0.4", given, tuned={"LRURec": Tuned({"dropout_prob": 0.9, "n_layers": 2}, 3)})
    arms = arms_of(experiment)
    assert list(arms) == ["LRURec[0.1]", "LRURec[0.4]", "MetaRec[0.1]", "MetaRec[0.4]"]
    assert experiment.against == ((None,), (None,), (0,), (1,))
    assert [arm.runs[0].config["dropout_prob"] for arm in experiment.arms] == [0.1, 0.4, 0.1, 0.4]
    assert [arm.runs[0].config["n_layers"] for arm in experiment.arms[:2]] == [2, 2], "the rest of the tuning stays"


def test_numbers_of_sources_are_prefixes_and_none_is_the_reference_itself(given):
    experiment = swept("n_sources=0,1,2", given)
    arms = arms_of(experiment)
    assert [arm.runs[0].sources for arm in experiment.arms] == [[], [], ["Near"], ["Near", "Far"]]
    assert keys(arms["MetaRec[0]"].runs) == keys(arms["LRURec"].runs) and len(experiment.plan) == 6
    assert {run.title for run in experiment.plan if not run.sources} == {"LRURec seed 7", "LRURec seed 8"}
    with pytest.raises(ConfigError, match=r"n_sources: 3 sources, but there are 2 \(Near, Far\); name more"):
        swept("n_sources=1,3", given)


def test_sources_may_be_varied_one_at_a_time_or_together(given):
    experiment = swept("sources=[Far, Near],Near,none", given)
    assert [(arm.name, arm.runs[0].sources) for arm in experiment.arms[1:]] == [
        ("MetaRec[Far+Near]", ["Far", "Near"]), ("MetaRec[Near]", ["Near"]), ("MetaRec[none]", []),
    ]  # fmt: skip


def test_shares_of_users_are_targets_of_their_own_with_the_same_sources_for_both_sides(given, fresh_cache):
    experiment = swept("target_users=0.5,1", given)
    arms = arms_of(experiment)
    halves, whole = ["Target-users50-2", "Target-users50"], ["Target", "Target"]  # of seeds 7 and 8
    assert {name: [run.dataset for run in arm.runs] for name, arm in arms.items()} == {
        "LRURec[0.5]": halves, "LRURec[1]": whole, "MetaRec[0.5]": halves, "MetaRec[1]": whole,
    }  # fmt: skip
    assert arms["MetaRec[0.5]"].detail == "Target-users50-2 and 1 more from Near, Far"
    assert experiment.against == ((None,), (None,), (0,), (1,))
    assert all(arm.runs[0].sources == ["Near", "Far"] for name, arm in arms.items() if name.startswith("MetaRec"))
    assert keys(arms["MetaRec[1]"].runs) == keys(leaderboard("MetaRec", given))
    for shop, name in enumerate(reversed(halves)):
        users = {line.split("\t")[0] for line in (fresh_cache / name / f"{name}.inter").read_text().split("\n")[1:-1]}
        assert users == chosen_users([f"Target-u{number}" for number in range(50)], 0.5, shop)
    words = arms["MetaRec[0.5]"].runs[0].command.split()
    assert words[:3] == ["recbole-metarec", "sweep", "target_users=0.5"] and "Near,Far" in words
    assert words[words.index("--dataset") + 1] == "Target" and not any("transfer" in word for word in words)


def test_any_sweep_may_be_of_subsamples_another_one_for_each_seed(given):
    arms = arms_of(swept("n_sources=0,1", given, share="0.5"))
    assert list(arms) == ["LRURec", "MetaRec[0]", "MetaRec[1]"]
    for arm in arms.values():
        assert [run.dataset for run in arm.runs] == ["Target-users50-2", "Target-users50"]
    for key in ("target_users=0.5", "overlap_users=0"):
        with pytest.raises(ConfigError, match="already decides which users the target has; leave --target_users out"):
            swept(key, given, share="0.5")


@pytest.mark.parametrize(
    ("grid", "models", "share", "more"),
    [
        ("target_users=0.5", "MetaRec,SASRec", "1", {}),
        ("target_users=0.5", "LRURec-text,MetaRec-text", "1", {"text_width": 8}),
        ("n_sources=0,1", "MetaRec", "0.5", {}),
        ("vq_heads=1,2", "MetaRec,SASRec", "0.5", {}),
        ("temperature=0.1,1", "Joint", "0.5", {"text_alignment": True, "text_width": 8}),
        ("text_columns=[text, brand],text", "MetaRec", "0.5", {}),
        ("sources=[Far, Near],Near,none", "MetaRec", "0.5", {}),
        ("vq_heads=2", "MetaRec", "0.5", {"sources": "none"}),
        ("overlap_users=0,1", "MetaRec", "1", {"user_inter_num_interval": "[3,inf)"}),
    ],
)  # fmt: skip
def test_a_run_of_a_part_of_a_domain_has_a_command_that_repeats_it(
    given, grid, models, share, more, monkeypatch, tmp_path
):
    named = not grid.startswith(("sources", "overlap"))
    own = {key: value for key, value in given.items() if named or key != "sources"}
    folder = Path(given["data_path"])
    write_items(folder, "Target", {n: f"thing {n}" for n in range(12)})
    planned = []
    monkeypatch.setattr(cli_sweep, "run_and_report", lambda comparison, study, *_: planned.append(study) or 0)
    monkeypatch.chdir(tmp_path)
    try:
        for run in swept(grid, {**own, **more}, models, share=share).plan:
            assert cli.main(shlex.split(run.command)[1:]) == 0, run.command
            assert run.key in {again.key for again in planned.pop().plan}, run.command
    finally:
        (folder / "Target/Target.item").unlink()


@pytest.mark.parametrize("kind", ["users", "items"])
def test_overlaps_have_one_target_one_reference_and_a_source_each(given, kind):
    own = {key: value for key, value in given.items() if key != "sources"}
    experiment = swept(f"overlap_{kind}=0,1", {**own, "user_inter_num_interval": "[3,inf)"})
    assert [(arm.name, arm.runs[0].dataset, arm.runs[0].sources) for arm in experiment.arms] == [
        ("LRURec", "Target-half", []), ("MetaRec[0]", "Target-half", ["Target-other"]),
        ("MetaRec[1]", "Target-half", [f"Target-other-{kind}100"]),
    ]  # fmt: skip
    assert "--sources" not in experiment.arms[1].runs[0].command
    with pytest.raises(ConfigError, match=f"overlap_{kind}: the source is the other half of Target; leave sources out"):
        swept(f"overlap_{kind}=0", given)


def test_models_without_sources_have_a_learning_curve_too(given):
    arms = arms_of(swept("target_users=0.5,1", given, "SASRec"))
    assert list(arms) == ["LRURec[0.5]", "LRURec[1]", "SASRec[0.5]", "SASRec[1]"]


def test_a_model_that_a_value_does_not_concern_is_run_once_and_held_against_a_reference_for_all(given):
    experiment = swept("temperature=0.02,1", given, "MetaRec,Pretrain")
    assert [arm.name for arm in experiment.arms] == [
        "LRURec", "MetaRec[0.02]", "MetaRec[1]", "Pretrain[0.02]", "Pretrain[1]"
    ], "MetaRec's keys are Pretrain's"  # fmt: skip
    experiment = swept("temperature=0.02,1", given, "MetaRec,SASRec")
    assert [arm.name for arm in experiment.arms] == ["LRURec", "MetaRec[0.02]", "MetaRec[1]", "SASRec"]
    assert experiment.against[-1] == (0,)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("temperature", "temperature: not of the form KEY=v1,v2,...; "),
        ("temprature=1", "sweep: unknown config key temprature; did you mean temperature?"),
        ("target_user=1", "target_user: unknown key; did you mean target_users?"),
        ("hidden_size=8", "hidden_size: no key of MetaRec; "),
        ("temperature=", "temperature: an empty value in temperature=; "),
        ("temperature=1,,2", "temperature: an empty value in "),
        ("temperature=1,1.0", "temperature: 1 is given twice; "),
        ("temperature=0.1,0", "sweep: temperature is 0; use a float > 0"),
        ("inner_steps=1,1.5", "sweep: inner_steps is 1.5; use an int >= 1"),
        ("vq_heads=2,3", "sweep: vq_heads is 3, which does not divide embedding_size 8"),
        ("seed=1,2", "seed: not to be varied; it has an option of its own"),
        ("meta_transfer=meta,joint", "meta_transfer: not to be varied; models differ by it"),
        ("topk=[10],[20]", "topk: not to be varied; all runs are measured alike"),
        ("n_sources=1,1.5", "n_sources: 1.5 is not allowed; use an int >= 0"),
        ("n_sources=-1", "n_sources: -1 is not allowed; "),
        ("n_sources=True", "n_sources: true is not allowed; "),
        ("target_users=0.1,0", "target_users: 0 is not allowed; use a number in (0, 1]"),
        ("target_users=10", "target_users: 10 is not allowed; "),
        ("overlap_users=0,1.5", "overlap_users: 1.5 is not allowed; use a number in [0, 1]"),
        ("target_users=many", "target_users: many is not allowed; "),
    ],
)  # fmt: skip
def test_what_cannot_be_varied_is_said(grid, message, given, fresh_cache):
    with pytest.raises(ConfigError) as refused:
        swept(grid, given)
    assert str(refused.value).startswith(message) and not fresh_cache.exists()
