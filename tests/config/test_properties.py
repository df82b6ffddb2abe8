"""The shipped defaults are documented, and no key is read that nobody may set, nor set that nobody reads."""

import dataclasses
import itertools
import re
import shutil
from pathlib import Path

import pytest
import yaml

import recbole_metarec
from recbole_metarec.config import schema
from recbole_metarec.config.models import SHIPPED_MODELS
from recbole_metarec.config.recbole_files import recbole_root
from recbole_metarec.config.resources import DEFAULT_DATA_PATH, resource_dir
from recbole_metarec.config.rules import check_config
from recbole_metarec.config.schema import (
    SCOPES,
    default_values,
    key_reference,
    key_table,
    keys_in,
    known_keys,
    restricted_keys,
)
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import COMPETITORS
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
            assert re.match(
                r"^\w+: .*# \((\w+ or )*(int|float|bool|str|list|dict|none|class|all|auto|any|computed)\b.*\) \S.*[.]$",
                line,
            ), line


def test_files_and_reference_name_the_same_keys():
    named = {key for path in FILES for key in yaml.safe_load(path.read_text(encoding="utf-8")) or ()}
    assert named == set(key_table())
    assert all(path.stem in (*SHIPPED_MODELS, "overall", "recbole") for path in FILES)
    assert not set(key_reference()) & set(restricted_keys())  # one home for each


def test_a_key_of_several_models_means_the_same_in_all():
    for one, other in itertools.combinations(SHIPPED_MODELS, 2):
        for name in set(default_values(one)) & set(default_values(other)):
            ours, theirs = key_reference(one)[name], key_reference(other)[name]
            assert dataclasses.replace(ours, default=0, file="") == dataclasses.replace(theirs, default=0, file="")


def test_the_defaults_of_recbole_s_own_keys_are_recbole_s():
    shipped = {}
    for file in ("overall.yaml", "dataset/sample.yaml"):
        shipped |= yaml.safe_load((recbole_root() / "properties" / file).read_text(encoding="utf-8"))
    ours = {name: key.default for name, key in restricted_keys().items() if name in shipped}
    assert len(ours) > 30
    assert ours["data_path"] == DEFAULT_DATA_PATH
    assert ours == {name: shipped[name] for name in ours}
    assert all(key.default is None for name, key in restricted_keys().items() if name not in shipped)


def test_every_scope_has_keys_and_code_that_asks_for_it():
    asked = set(re.findall(r"""["'](\w+)["']""", " ".join(re.findall(r"keys_in\(([^()]*)\)", " ".join(CODE.values())))))
    asked |= {scope for scope in SCOPES if f'    "{scope}": "' in CODE[PACKAGE / "compare" / "settings.py"]}
    assert asked == set(SCOPES)
    assert all(keys_in(scope) for scope in SCOPES)
    with pytest.raises(ValueError, match="machines: no scope"):
        keys_in("machines")


def test_the_names_of_the_leaderboard_set_the_keys_that_say_so():
    also_given = {"seen_offset", "item_memory"}  # by the user, too, for the lines that leave them open
    named = {"model"} | {key for line in COMPETITORS.values() for key in line.overrides}
    assert keys_in("by_name") == named - also_given and also_given <= named


def test_a_key_is_added_by_one_line(tmp_path, monkeypatch):
    shutil.copytree(resource_dir("properties"), tmp_path / "properties")
    path = tmp_path / "properties" / "model" / "MetaRec.yaml"
    caches = (schema._shipped_keys, schema.key_table, schema.keys_in, schema._known_keys, schema.restricted_keys)
    monkeypatch.setattr(schema, "resource_dir", lambda name: tmp_path / name)
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write("patience_of_users: 3   # (int, >= 1; machine by_name) How long they wait.\n")
        [cache.cache_clear() for cache in caches]
        assert known_keys()["patience_of_users"] == "ours"
        assert default_values("MetaRec")["patience_of_users"] == 3
        assert "patience_of_users" in keys_in("machine") & keys_in("by_name")
        with pytest.raises(ConfigError, match="^my.yaml:2: patience_of_users is 0; use an int >= 1"):
            check_config(default_values("MetaRec") | {"patience_of_users": 0}, {"patience_of_users": "my.yaml:2"})
        path.write_text("patience_of_users: 3   # (int, >= 1; mashine) How long they wait.\n", encoding="utf-8")
        schema._shipped_keys.cache_clear()
        with pytest.raises(ValueError, match=r"MetaRec\.yaml:1: mashine is no scope"):
            schema.key_reference("MetaRec")
    finally:
        [cache.cache_clear() for cache in caches]


def test_every_key_that_the_code_reads_is_known():
    for path, text in CODE.items():
        unknown = set(re.findall(READ, text)) - set(known_keys()) - keys_in("derived")
        assert not unknown, f"{path.name} reads {unknown}"


@pytest.mark.parametrize("name", sorted(key_reference()))
def test_every_key_is_read_somewhere(name):
    # the trainer takes the settings of a step by the names of this dataclass
    if name in BY_RECBOLE or name in TransferSettings.__dataclass_fields__:
        return
    readers = [path for path, text in CODE.items() if name in re.findall(READ, text)]
    assert readers, f"{name} is in properties/, but nothing reads it"
