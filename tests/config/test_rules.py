"""Values are checked against the comments in properties/, rules between keys against hand-written cases."""

import math

import pytest

from recbole_metarec.config.rules import RANKING_METRICS, check_config
from recbole_metarec.config.run_config import completed
from recbole_metarec.config.schema import (
    Key,
    check_keys,
    default_values,
    key_table,
    keys_in,
    known_keys,
    unknown_key_error,
)
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.config.yaml_files import parse_value, read_yaml
from recbole_metarec.errors import ConfigError

CHECKED = {**default_values("MetaRec"), "dataset": "target"}


def fault(given: dict, place: str = "config_dict") -> str:
    with pytest.raises(ConfigError) as caught:
        check_config({**CHECKED, **completed(given, CHECKED)}, dict.fromkeys(given, place))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def passes(**given) -> None:
    check_config({**CHECKED, **completed(given, CHECKED)}, dict.fromkeys(given, "config_dict"))


def outside(rule: str) -> list[float]:
    """Values just outside a printed range, worked out here from its text and not by the code under test."""
    if rule.startswith(">= "):
        return [float(rule[3:]) - 1]
    if rule.startswith("> "):
        return [float(rule[2:]), float(rule[2:]) - 1]
    low, high = rule[4:-1].split(", ")
    return [float(low) - 1, float(high) + 1] + [float(high)] * (rule[-1] == ")") + [float(low)] * (rule[3] == "(")


def wrong_values(key: Key) -> list:
    kinds, wrong = key.kind.split(" or "), []
    if key.rule and not key.choices:
        whole = "int" in kinds or kinds == ["list"]
        edges = [int(value) if whole else value for value in outside(key.rule)]
        wrong += [[value] for value in edges] if kinds == ["list"] else edges
    if "int" in kinds or "float" in kinds:
        wrong += ["word", True, math.nan, math.inf, [1], 10**400, *([] if "none" in kinds else [None])]
    if "int" in kinds:
        wrong += [1.5, 2**31] if key.name != "seed" else [1.5, 2**32]
    if key.choices:
        wrong += ["nonsense", 1, None, True]
    elif kinds == ["str"]:
        wrong += [1, None, [1]]
    always = {
        "bool": [1, 0, "true", None],
        "auto or bool": [1, 0, "true", None],
        "dict": ["x", 1, [1], None],
        "list": [[], {}, None, True],
        "none": [1, {"distribution": "uniform"}, "uniform"],
        "str or list": [1, {}, [1], [""]],
        "str or none": [1, [1], {}],
        "dict or none": ["x", 1, [1]],
        "list or none": [{}, [1], True],
    }
    if "class" in kinds:
        wrong += ["MyWeighting", "my_transfer.py", 3, True]
    return wrong + always.get(key.kind, [])


CHECKED_KEYS = {name: key for name, key in key_table().items() if key.is_checked}


@pytest.mark.parametrize("key", CHECKED_KEYS.values(), ids=CHECKED_KEYS)
def test_a_wrong_value_names_key_and_origin_and_the_default_is_right(key):
    assert wrong_values(key)
    for value in wrong_values(key):
        message = fault({key.name: value}, "my.yaml:12")
        assert message.startswith(f"my.yaml:12: {key.name} is "), value
        assert "; " in message
    assert key.allows(key.default)


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 1), ("dropout_prob", 0), ("inner_learning_rate", 0), ("vq_codes", 100), ("vq_codes", "all"),
     ("source_weight", "auto"), ("source_weight", 0.5), ("topk", [10, 20, 50]), ("epochs", 0), ("vq_heads", 0),
     ("metrics", ["ndcg", "HIT"]), ("sources", []), ("sources", None), ("sources", "none"), ("sources", ["Office"]),
     ("sources", "Office, Tools"), ("second_order", True), ("target_batch", "split"), ("train_neg_sample_args", "None"),
     ("eval_args", {"mode": {"valid": "full", "test": "full"}}), ("worker", 0), ("save_dataloaders", False),
     ("clip_grad_norm", {"max_norm": 5}), ("use_gpu", True), ("device", "cpu")],
)  # fmt: skip
def test_values_at_the_edge_of_their_range_pass(name, value):
    passes(**{name: value, **({"valid_metric": "ndcg@10"} if name == "metrics" else {})})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vq_heads": 5}, "x: vq_heads is 5, which does not divide embedding_size 64; use 0, 1, 2, 4, 8, 16, 32 or 64"),
        ({"embedding_size": 6}, "x: vq_heads is 4, which does not divide embedding_size 6; use 0, 1, 2, 3 or 6"),
        ({"lru_r_min": 0.99}, "x: lru_r_min is 0.99, not below lru_r_max 0.99; use a number below 0.99"),
        ({"sources": ["A", "target"]}, "x: the target target is among its sources"),
        ({"sources": "A,B,A"}, "x: source A is given twice; name each source once"),
        ({"sources": "A,,B"}, "x: sources is A,,B, where an empty name is no domain"),
        ({"sources": ["auto", "B"]}, "where auto is no domain"),
        ({"meta_transfer": "meat"}, "use meta, joint, pretrain or none (did you mean meta?)"),
        ({"train_neg_sample_args": {"distribution": "uniform"}}, "it must stay empty: the loss has its own negatives"),
        ({"loss_type": "BPR"}, "x: loss_type is BPR; use CE"),
        ({"eval_args": {"mode": "uni100"}}, "x: eval_args has mode uni100; use full"),
        ({"eval_args": {"mode": {"valid": "full", "test": "pop10"}}}, "x: eval_args has mode pop10; use full"),
        ({"eval_args": {"split": {"RS": [8, 1, 1]}}}, "x: eval_args has split {'RS': [8, 1, 1]}"),
        ({"eval_args": {"order": "RO"}}, "x: eval_args has order RO; use TO"),
        ({"eval_args": {"ordr": "TO"}}, "x: unknown key ordr in eval_args; did you mean order?"),
        ({"benchmark_filename": ["a", "b"]}, "x: benchmark_filename is ['a', 'b'], which is not supported here"),
        ({"worker": 2}, "x: worker is 2, which is not supported here"),
        ({"save_dataloaders": True}, "x: save_dataloaders is True, which is not supported here"),
        ({"transform": "mask_itemseq"}, "x: transform is mask_itemseq, which is not supported here"),
        ({"local_rank": 1}, "x: local_rank is 1, which is not supported here"),
        ({"repeatable": "no"}, "x: repeatable is no; use True or False"),
        ({"eval_args": {"split": {"LS": "valid_only"}}}, "x: eval_args has split {'LS': 'valid_only'}; use {'LS'"),
        ({"eval_args": {"split": {"TS": [0.8, 0.2]}}}, "; use shares of the events"),
        ({"eval_args": {"split": {"TS": [2, 1]}}}, "x: eval_args has split {'TS': [2, 1]}; use shares of the events"),
        ({"eval_args": {"split": {"TS": ["2018-01-01", "soon"]}}}, "; use shares of the events, [0.8, 0.1, 0.1], or"),
        ({"eval_args": {"split": {"TS": [0.8, 0.2, 0]}}}, "; use shares of the events"),
        ({"eval_args": {"split": {"TS": 0.8}}}, "; use shares of the events"),
        ({"valid_metric": "NDCG@20"}, "x: valid_metric NDCG@20 is not measured by metrics and topk; use NDCG@10"),
        ({"metrics": ["NDGC"]}, "x: NDGC is not a metric of a ranking with one held-out item; did you mean ndcg?"),
        ({"metrics": ["AUC"]}, "x: AUC is not a metric of a ranking with one held-out item; use some of hit, map"),
        ({"metrics": ["ItemCoverage"]}, "x: metrics ItemCoverage are of whole lists, and validation needs one of each"),
        (
            {"metrics": ["NDCG", "ItemCoverage"], "valid_metric": "ItemCoverage@10"},
            "x: valid_metric ItemCoverage@10 is not measured by metrics and topk; use NDCG@10 or NDCG@50",
        ),
        ({"enable_amp": True}, "x: enable_amp is True, which is not supported here"),
        ({"shuffle": False}, "x: shuffle is False, which is not supported here"),
        ({"eval_step": 0}, "x: eval_step is 0; use an int >= 1"),
        ({"topk": [20]}, "x: valid_metric NDCG@10 is not measured by metrics and topk"),
        ({"load_col": {"inter": ["user_id", "item_id"]}}, "x: load_col does not read timestamp"),
        (
            {"val_interval": {"rating": "[3,inf)"}},
            "x: val_interval filters by rating, which load_col does not read; add it to the inter list of load_col: "
            "{inter: [user_id, item_id, timestamp, rating]}",
        ),
        ({"threshold": {"rating": 3}}, "x: threshold makes labels of rating, which load_col does not read"),
        ({"normalize_field": ["price"]}, "x: normalize_field scales price, which load_col does not read"),
        ({"data_path": "no/such/folder"}, "x: data_path no/such/folder is not a folder"),
        ({"seed": "x"}, "x: seed is x; use an int in [0, 4294967295]"),
        ({"seed": -1}, "x: seed is -1; use an int"),
        ({"use_gpu": "yes"}, "x: use_gpu is yes; use True or False"),
        ({"device": "tpu"}, "x: device is tpu; use cpu or cuda"),
    ],
)
def test_rules_between_keys(given, message):
    assert message in fault(given, "x")


def test_a_filter_may_name_any_column_that_is_read():
    inter = ["user_id", "item_id", "timestamp", "rating"]
    for loaded in ({"inter": inter}, {"inter": inter[:3], "item": ["item_id", "rating"]}):
        passes(load_col=loaded, val_interval={"rating": "[3,inf)"})
    passes(val_interval={"timestamp": "[3,inf)"})


@pytest.mark.parametrize("name", sorted(keys_in("fixed")))
def test_a_fixed_key_takes_its_default_alone(name):
    default = key_table()[name].default
    assert f"x: {name} is " in fault({name: "x" if default is None else not default}, "x")
    if name != "local_rank":  # its mere presence is a wish to RecBole
        passes(**{name: default})


def test_a_rule_holds_for_the_models_that_have_its_keys():
    for model in ("LRURec", "MetaRec", "UniSRec"):
        check_config({**default_values(model), "dataset": "target"}, {})
    check_config({**default_values("LRURec"), "embedding_size": 7}, {})  # no heads, nothing to divide
    values = {**default_values("UniSRec"), "embedding_size": 9, "n_heads": 2}
    with pytest.raises(ConfigError, match=r"^a: n_heads is 2, which does not divide embedding_size 9; use 1, 3 or 9$"):
        check_config(values, {"n_heads": "a"})
    with pytest.raises(ConfigError, match=r"^a: n_heads is 3, which does not divide embedding_size 1; use 1$"):
        check_config({**values, "embedding_size": 1, "n_heads": 3}, {"n_heads": "a"})
    with pytest.raises(ConfigError, match="source Office is given twice"):
        check_config({**default_values("UniSRec"), "sources": ["Office", "Office"]}, {})


def test_the_place_of_a_rule_is_that_of_a_key_that_was_given():
    where = {"embedding_size": "b.yaml:3"}
    with pytest.raises(ConfigError, match=r"^b\.yaml:3: vq_heads is 4"):
        check_config({**CHECKED, "embedding_size": 6}, where)


@pytest.mark.parametrize(
    ("key", "guess"),
    [("vq_head", "vq_heads"), ("temprature", "temperature"), ("Epochs", "epochs"), ("lr", "learning_rate"),
     ("evalargs", "eval_args"), ("max_item_list_length", "MAX_ITEM_LIST_LENGTH"), ("hidden_sise", "hidden_size")],
)  # fmt: skip
def test_an_unknown_key_is_met_with_the_nearest_known_one(key, guess):
    assert str(unknown_key_error(key, "--key")).startswith(f"--key: unknown config key {key}; did you mean {guess}?")
    with pytest.raises(ConfigError, match=guess):
        check_keys([key], {key: "config_dict"})


def test_keys_of_recbole_and_of_its_models_are_known():
    known = known_keys()
    assert {"seed", "user_inter_num_interval", "n_heads", "model", "gpu_id", "neg_sampling", "vq_heads"} <= set(known)
    assert known["vq_heads"] == "ours"
    assert known["seed"] == "recbole"
    assert known["margin"] not in ("ours", "recbole")
    assert nearest("qqqqqq", known) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E5", 1e5), ("-.5", -0.5), ("5", 5), ("[10, 20]", [10, 20]), ("True", True), ("None", None),
     ("~", None), ("", ""), ("Office,Tools", "Office,Tools"), ("all", "all"), ("{max_norm: 5}", {"max_norm": 5}),
     ("[0,inf)", "[0,inf)"), ("*x", "*x"), ("2020-01-01", "2020-01-01"),
     ("!!python/name:os.system", "!!python/name:os.system"),
     ("__import__('os').getpid()", "__import__('os').getpid()")],
)  # fmt: skip
def test_command_line_values(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["[10,", "{a: 1", "[10, 20"])
def test_brackets_that_do_not_close(text):
    with pytest.raises(ConfigError, match=r"^--topk: .* is not a YAML value"):
        parse_value(text, "--topk")


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "my.yaml"
    path.write_bytes(text.encode(encoding))
    return path


def test_yaml_gives_values_and_lines(tmp_path):
    values, lines = read_yaml(write(tmp_path, "# head\nepochs: 1e1\n\nsources:\n  - A\n  - B\nclip_grad_norm: None\n"))
    assert values == {"epochs": 10.0, "sources": ["A", "B"], "clip_grad_norm": None}
    assert isinstance(values["epochs"], float)
    assert lines == {"epochs": 2, "sources": 4, "clip_grad_norm": 7}
    assert read_yaml(write(tmp_path, "# nothing\n")) == ({}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [("epochs: 1\nseed: 2\nepochs: 3\n", ":3: epochs is given twice"),
     ("eval_args:\n  mode: full\n  mode: full\n", ":3: mode is given twice"),
     ("- a\n- b\n", ":1: not a list of settings"), ("just text\n", ":1: "),
     ("epochs: [1\nseed: 1\n", ":2: "), ("a: 1\n\tb: 2\n", ":2: "), ("1: 2\n", ":1: a key must be a word, not 1"),
     ("on: 2\n", ":1: a key must be a word, not on"), ("a: !!python/object/apply:os.getpid []\n", ":1: could not"),
     ("a: *b\n", ":1: ")],
)  # fmt: skip
def test_yaml_mistakes_name_file_and_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no such config file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"my\.yaml:2: not UTF-8"):
        read_yaml(write(tmp_path, "a: 1\nb: é\n", "latin-1"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)


def test_the_metrics_that_a_rank_gives_are_recbole_s():
    from recbole.evaluator.register import metric_information

    assert list(RANKING_METRICS) == sorted(n for n, needs in metric_information.items() if set(needs) == {"rec.topk"})
