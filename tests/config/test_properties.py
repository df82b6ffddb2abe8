"""The shipped defaults are documented, and no key is read that nobody may set, nor set that nobody reads."""

import importlib.util
import itertools
import re
from pathlib import Path

import pytest
import yaml

import recbole_metarec
from recbole_metarec.config.checks import OUR_MODELS, default_values, key_reference, known_keys
from recbole_metarec.config.resources import resource_dir
from recbole_metarec.trainer.transfer_state import TransferSettings

FILES = sorted(path for path in resource_dir("properties").rglob("*.yaml") if path.parent.name != "search")
PACKAGE = Path(recbole_metarec.__file__).resolve().parent
CODE = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
READ = r"""config(?:\.final_config_dict)?(?:\[|\.get\()["'](\w+)["']"""
# Read by RecBole itself: its Config, Dataset, Trainer and evaluator.
BY_RECBOLE = {"load_col", "normalize_all", "loss_type", "train_neg_sample_args", "epochs", "stopping_step", "learner",
              "learning_rate", "weight_decay", "eval_args", "repeatable", "metrics", "topk", "valid_metric",
              "metric_decimal_place", "train_batch_size"}  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_key_has_type_range_and_a_sentence(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"^\w+:", line):
            assert re.match(r"^\w+: .*# \((int|float|bool|str|list|dict|none|all|auto)\b.*\) \S.*[.]$", line), line


def test_files_and_reference_name_the_same_keys():
    named = {key for path in FILES for key in yaml.safe_load(path.read_text(encoding="utf-8"))}
    assert named == set(key_reference())
    assert all(path.stem in (*OUR_MODELS, "overall") for path in FILES)


def test_a_key_of_several_models_means_the_same_in_all():
    for one, other in itertools.combinations(OUR_MODELS, 2):
        for name in set(default_values(one)) & set(default_values(other)):
            ours, theirs = key_reference(one)[name], key_reference(other)[name]
            assert (ours.kind, ours.rule, ours.sentence) == (theirs.kind, theirs.rule, theirs.sentence)


def test_every_key_that_the_code_reads_is_known():
    computed = {"device", "MODEL_TYPE", "eval_type", "valid_metric_bigger", "MODEL_INPUT_TYPE", "single_spec"}
    for path, text in CODE.items():
        unknown = set(re.findall(READ, text)) - set(known_keys()) - computed
        assert not unknown, f"{path.name} reads {unknown}"


@pytest.mark.parametrize("name", sorted(key_reference()))
def test_every_key_is_read_somewhere(name):
    # the trainer takes the settings of a step by the names of this dataclass
    if name in BY_RECBOLE or name in TransferSettings.__dataclass_fields__:
        return
    readers = [path for path, text in CODE.items() if name in re.findall(READ, text)]
    assert readers, f"{name} stands in properties/ but nothing reads it"


def test_the_readme_shows_the_keys_as_they_are():
    path = PACKAGE.parent / "docs" / "make_reference.py"
    spec = importlib.util.spec_from_file_location("make_reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert reference.tables() in reference.README.read_text(encoding="utf-8"), "run python docs/make_reference.py"
