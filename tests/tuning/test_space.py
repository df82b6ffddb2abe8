"""Search spaces: what a file says is what is searched, and every mistake names its line."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole_metarec.config.resources import resource_dir
from recbole_metarec.config.schema import common_keys, key_reference
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import COMPETITORS, competitors
from recbole_metarec.jobs.plan import make_plan
from recbole_metarec.tuning.space import read_space, space_file

DEFAULTS = {"learning_rate": 0.001, "dropout_prob": 0.5, "n_layers": 2, "weight_decay": 0.01, "vq_codes": "all",
            "second_order": False, "vq_heads": 4}  # fmt: skip


def space(tmp_path, text: str, model: str = "MetaRec", given=()) -> dict:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return read_space(file, COMPETITORS[model], DEFAULTS, given)


def test_ranges_and_choices(tmp_path):
    text = """\
learning_rate: {low: 1e-4, high: 0.01, log: True}
dropout_prob: {low: 0, high: 0.8}
n_layers: {low: 1, high: 4}
vq_heads: {low: 1, high: 8, log: True}
vq_codes: {choices: [all, 10]}
second_order: {choices: [False, True]}
"""
    assert space(tmp_path, text) == {
        "learning_rate": FloatDistribution(0.0001, 0.01, log=True),
        "dropout_prob": FloatDistribution(0.0, 0.8),
        "n_layers": IntDistribution(1, 4),
        "vq_heads": IntDistribution(1, 8, log=True),
        "vq_codes": CategoricalDistribution(["all", 10]),
        "second_order": CategoricalDistribution([False, True]),
    }
    assert space(tmp_path, text, given={"n_layers": 1, "vq_heads": 2}).keys().isdisjoint({"n_layers", "vq_heads"})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learning_rat: {low: 0.1, high: 1}", "unknown config key learning_rat; did you mean learning_rate?"),
        ("hidden_dropout_prob: {low: 0.1, high: 0.5}", "MetaRec does not read hidden_dropout_prob; did you mean"),
        ("mask_ratio: {low: 0.1, high: 0.5}", "MetaRec does not read mask_ratio; "),
        ("epochs: {low: 1, high: 5}", "epochs is not for tuning: all models that are compared share it; remove it"),
        ("embedding_size: {choices: [32, 64]}", "embedding_size is not for tuning"),
        ("meta_transfer: {choices: [meta, joint]}", "meta_transfer is not for tuning"),
        ("topk: {choices: [10, 20]}", "topk is not for tuning"),
        ("learning_rate: 0.1", "learning_rate is 0.1; write {low: A, high: B}, "),
        ("learning_rate: [0.1, 1]", "learning_rate is [0.1, 1]; write "),
        ("learning_rate: {low: 0.1}", "learning_rate is {'low': 0.1}; write "),
        ("learning_rate: {low: 0.1, hihg: 1}", "learning_rate is {'low': 0.1, 'hihg': 1}; write "),
        ("learning_rate: {low: 0.1, high: 1, choices: [1]}", "learning_rate is {"),
        ("learning_rate: {low: a, high: 1}", "learning_rate has low a; use a number"),
        ("learning_rate: {low: True, high: 2}", "learning_rate has low True; use a number"),
        ("learning_rate: {low: 1e-4, high: .inf}", "learning_rate has high inf; use a number"),
        ("learning_rate: {low: 0.01, high: 0.01}", "learning_rate has low 0.01 and high 0.01; low must be below high"),
        ("learning_rate: {low: 0, high: 0.1, log: True}", "learning_rate is 0; use a float > 0"),
        ("weight_decay: {low: 0, high: 0.1, log: True}", "weight_decay has low 0, which has no logarithm; "),
        ("weight_decay: {low: 0, high: 0.1, log: 10}", "weight_decay has log 10; use True or False"),
        ("dropout_prob: {low: 0.1, high: 1.5}", "dropout_prob is 1.5; use a float in [0, 1)"),
        ("n_layers: {low: 0.5, high: 3}", "n_layers is 0.5; use an int in [1, 100]"),
        ("vq_codes: {low: 1, high: 30}", "vq_codes is all by default, which no range holds; use choices"),
        ("vq_heads: {choices: [4]}", "vq_heads has choices [4]; give two or more different plain values"),
        ("vq_heads: {choices: [4, 4]}", "vq_heads has choices [4, 4]; give two"),
        ("vq_heads: {choices: [4, [2]]}", "vq_heads has choices [4, [2]]; give two"),
        ("vq_heads: {choices: [4, -1]}", "vq_heads is -1; use an int >= 0"),
        ("dropout_prob: {low: 0.6, high: 0.9}", "dropout_prob leaves out 0.5, the default, which is tried first"),
        ("vq_heads: {choices: [1, 2]}", "vq_heads leaves out 4, the default, which is tried first; widen it, or fix"),
    ],
)  # fmt: skip
def test_every_mistake_names_its_line(tmp_path, line, message):
    with pytest.raises(ConfigError) as caught:
        space(tmp_path, f"# a comment\n{line}\n")
    assert str(caught.value).startswith(f"{tmp_path / 'space.yaml'}:2: {message}")


def test_a_whole_number_of_recboles_own_has_whole_bounds(tmp_path):
    with pytest.raises(ConfigError, match=r"space.yaml:1: n_layers is .*|n_layers is a whole number"):
        space(tmp_path, "n_layers: {low: 1.5, high: 3}", "SASRec")


def test_nothing_left_to_tune_and_models_without_a_space(tmp_path):
    with pytest.raises(ConfigError, match=r"space.yaml: no key is left to tune; "):
        space(tmp_path, "n_layers: {low: 1, high: 3}", given={"n_layers": 2})
    with pytest.raises(ConfigError, match=r"space.yaml: no key is left to tune; "):
        space(tmp_path, "")
    with pytest.raises(ConfigError, match="--model: Pop has nothing to tune"):
        space_file(COMPETITORS["Pop"])
    with pytest.raises(ConfigError, match="--model: no search space ships for NARM; give one with --space FILE"):
        space_file(competitors(["NARM"])[0])


def _tuned() -> list[str]:
    return [name for name in COMPETITORS if name != "Pop"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    from support.worlds import write_shop

    folder = write_shop(tmp_path_factory.mktemp("shop"))
    for name in ("Target", "Near", "Far"):
        (folder / name / f"{name}.item").write_text("item_id:token\ttext:token_seq\n1\tred shoe\n")
    return folder


@pytest.mark.parametrize("name", _tuned())
def test_every_model_has_a_space_around_its_default(name, shop):
    """And the very same learning rates and range of dropout as any other model: the comparison is of models."""
    model = COMPETITORS[name]
    (run,) = make_plan([model], "Target", [1], {"data_path": str(shop), "state": "ERROR", "device": "cpu"})
    found = read_space(space_file(model), model, run.config, {})
    if model.spec.is_fitted:
        assert found.keys() <= key_reference(model.experiment).keys() - common_keys()
        return
    assert found["learning_rate"] == FloatDistribution(0.0001, 0.01, log=True)
    dropouts = {key: own for key, own in found.items() if key in ("dropout_prob", "hidden_dropout_prob")}
    assert set(map(repr, dropouts.values())) == {repr(FloatDistribution(0.1, 0.8))}
    assert isinstance(found["weight_decay"], CategoricalDistribution)
    assert 0.0 in found["weight_decay"].choices and len(found["weight_decay"].choices) == 4


def test_no_space_ships_for_a_model_that_is_not_there():
    stems = {path.stem for path in (resource_dir("properties") / "search").glob("*.yaml")}
    assert stems <= {*_tuned(), *(COMPETITORS[name].experiment for name in _tuned())}
