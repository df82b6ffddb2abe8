"""Files that would run code if they were believed: wherever one is read, nothing in it runs."""

import io
import json
import math
import os
import pickle
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from support.item_worlds import OF_MODEL, ONE_LAYER, write_shop_with_kinds
from support.worlds import TINY, run

# isort: split
import recbole.quick_start

from recbole_metarec.cli.main import main
from recbole_metarec.compare.neighbours import read_mappings
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.data.text_vectors import _cached
from recbole_metarec.errors import CheckpointError, ConfigError, MetaRecError
from recbole_metarec.model.lru_network import LRUNetwork
from recbole_metarec.plugin.config import recbole_config
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.serve import Recommender
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.usefixtures("without_pictures")


class Bomb:
    """Makes the folder ``it-ran`` when it is unpickled."""

    def __init__(self, folder: Path):
        self.file = str(folder / "it-ran")

    def __reduce__(self):
        return os.makedirs, (self.file, 0o777, True)


@pytest.fixture
def bombs(tmp_path):
    """A file of each kind that unpickling would run, and a check, at the end, that none has."""
    bomb = Bomb(tmp_path)

    def hidden(content: dict) -> bytes:
        packed = io.BytesIO()
        torch.save({"format": "recbole-metarec-1", **content}, packed)
        return packed.getvalue()

    legacy, tar, array = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": bomb}, legacy, _use_new_zipfile_serialization=False)
    with tarfile.open(fileobj=tar, mode="w") as archive:  # PyTorch's oldest form
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member, content = tarfile.TarInfo(name), pickle.dumps(bomb, protocol=2)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    np.save(array, np.array([bomb], dtype=object), allow_pickle=True)
    yield {
        "pickle": pickle.dumps(bomb),
        "whole": hidden({"state_dict": bomb}),
        "in the config": hidden({"state_dict": {}, "config": bomb}),
        "in a key": hidden({"state_dict": {}, "history": [{"epoch": [bomb]}]}),
        "old torch format": legacy.getvalue(),
        "oldest torch format": tar.getvalue(),
        "npy": array.getvalue(),
    }
    assert not (tmp_path / "it-ran").exists()
    pickle.loads(pickle.dumps(bomb))
    assert (tmp_path / "it-ran").exists(), "the bomb is a real one"


@pytest.fixture(scope="module")
def trained(shop):
    quiet = {"data_path": str(shop), "state": "ERROR", "show_progress": False, "device": "cpu", "epochs": 2}
    place = {"sources": ["Near"], "checkpoint_dir": str(shop / "saved"), "transfer_guard": False}
    return run_experiment("MetaRec", "Target", overrides=TINY | quiet | place).run_dir


def test_no_reader_of_checkpoints_runs_what_is_in_them(shop, trained, bombs, tmp_path):
    resumed = run(shop, fit=False)
    readers = {
        "read": read_checkpoint,
        "serve": Recommender.load,
        "resume": lambda file: resumed.trainer.resume_checkpoint(file),
        "evaluate": lambda file: resumed.trainer.evaluate(resumed.test, model_file=file),
        "RecBole's loader": recbole.quick_start.load_data_and_model,
        "neighbours": lambda file: read_mappings(file.parent),
    }
    for kind, content in bombs.items():
        for number, (name, read) in enumerate(readers.items()):
            folder = tmp_path / f"{kind}-{number}"
            folder.mkdir()
            for file in ("model.pth", "model-last.pth"):
                (folder / file).write_bytes(content)
            with pytest.raises(CheckpointError):
                read(folder / "model.pth")
            assert not (tmp_path / "it-ran").exists(), (kind, name)


def test_the_commands_refuse_them_in_one_line(trained, bombs, tmp_path, capsys):
    files = {path: path.read_bytes() for path in trained.iterdir() if path.suffix == ".pth"}
    for content in bombs.values():
        for path in files:
            path.write_bytes(content)
        (trained / "metrics.json").unlink(missing_ok=True)
        for command in (
            ["train", "--resume", str(trained)],
            ["recommend", str(trained / "model.pth"), "--history", "x"],
        ):
            assert main(command) == 2
            error = capsys.readouterr().err.strip().splitlines()[-1]
            assert error.startswith("error: ") and ".pth" in error
    for path, content in files.items():
        path.write_bytes(content)


def test_a_config_inside_a_checkpoint_is_json_and_orders_no_pickle(trained, bombs, tmp_path):
    content = read_checkpoint(trained / "model.pth")
    config = json.loads(content["config"])
    for name in ("dataset", "dataloaders"):
        file = tmp_path / f"{name}.pth"
        file.write_bytes(bombs["pickle"])
        config["values"][f"{name}_save_path"] = str(file)
    config["values"]["trust_pickle"] = True
    config["values"]["seed"] = f"__import__('os').mkdir({str(tmp_path / 'it-ran')!r})"
    write_checkpoint(tmp_path / "model.pth", content | {"config": json.dumps(config)})
    with pytest.raises(CheckpointError, match="seed"):
        recbole.quick_start.load_data_and_model(str(tmp_path / "model.pth"))
    config["values"]["seed"] = 7
    write_checkpoint(tmp_path / "model.pth", content | {"config": json.dumps(config)})
    found = recbole.quick_start.load_data_and_model(str(tmp_path / "model.pth"))[0]
    assert not found["trust_pickle"] and not found["dataset_save_path"]


TABLE = "item_embedding.weight"


def with_config(content, **values):
    config = json.loads(content["config"])
    return content | {"config": json.dumps(config | {"values": config["values"] | values})}


def weights_of(content, **changed):
    return content | {"state_dict": content["state_dict"] | changed}


def one_item(content, value):
    return weights_of(content, **{TABLE: content["state_dict"][TABLE].clone().index_fill_(0, torch.tensor(3), value)})


def with_sizes(content, **sizes):
    """The file as it is, but for what it says of the network."""
    described = json.loads(content["network"])
    return content | {"network": json.dumps(described | {"sizes": described["sizes"] | sizes})}


def as_before(content, **values):
    """The file as the versions wrote it that said nothing of the network."""
    return {key: value for key, value in with_config(content, **values).items() if key != "network"}


def as_wide_as_one_number(content, width):
    """Tensors of the shapes that the sizes ask for, each of which repeats one number of the file."""
    spoilt = with_config(with_sizes(content, width=width), embedding_size=width, vq_heads=1)
    with torch.device("meta"):
        shapes = LRUNetwork(**json.loads(spoilt["network"])["sizes"]).state_dict()
    return spoilt | {"state_dict": {name: torch.zeros(1).expand(value.shape) for name, value in shapes.items()}}


SPOILT = {
    "not a number": (
        lambda good: weights_of(good, **{TABLE: good["state_dict"][TABLE] * math.nan}),
        f"{TABLE} holds",
    ),
    "one item": (lambda good: one_item(good, math.nan), f"{TABLE} holds numbers that are not finite"),
    "infinite bias": (
        lambda good: weights_of(good, item_bias=good["state_dict"]["item_bias"] + math.inf),
        "item_bias",
    ),
    "a name twice": (
        lambda good: good | {"items": [*good["items"][:-1], good["items"][1]]},
        "two of its items are",
    ),
    "a name too few": (lambda good: good | {"items": good["items"][:-1]}, "items for"),
    "very many layers": (lambda good: with_sizes(good, n_layers=10**9), "n_layers is 1000000000"),
    "one layer more": (lambda good: with_sizes(good, n_layers=2), r"encoder.blocks.1.\S+ is on one side only"),
    "no layer": (lambda good: with_sizes(good, n_layers=0), "n_layers is 0"),
    "wide": (lambda good: with_sizes(good, width=65536), r"the model's is .25, 65536."),
    "wider than any tensor": (lambda good: with_sizes(good, width=2**31 - 1), "make no model|the model's is"),
    "wide, of one number": (lambda good: as_wide_as_one_number(good, 4096), "bytes, which are not in"),
    "an endless history": (lambda good: with_sizes(good, longest=10**12), "longest is"),
    "a size that is none": (lambda good: with_sizes(good, width="8"), "width is '8'"),
    "a size of nothing": (lambda good: with_sizes(good, depth=3), "what network it holds"),
    "no size": (
        lambda good: good | {"network": json.dumps({"name": "LRUNetwork", "sizes": {}})},
        "what network it holds",
    ),
    "another network": (lambda good: good | {"network": json.dumps({"name": "os", "sizes": {}})}, "'os' is not one"),
    "before, very many layers": (lambda good: as_before(good, n_layers=10**9), "n_layers is 1000000000"),
    "before, wide": (lambda good: as_before(good, embedding_size=65536), r"the model's is .25, 65536."),
    "before, an endless history": (lambda good: as_before(good, MAX_ITEM_LIST_LENGTH=10**12), "longest is"),
    "before, of RecBole": (
        lambda good: as_before(good) | {"config": json.dumps(json.loads(good["config"]) | {"model": "BPR"})},
        "of another model",
    ),
    "a dataset elsewhere": (
        lambda good: good | {"config": json.dumps(json.loads(good["config"]) | {"dataset": "../Target"})},
        "config is not one",
    ),
    "a separator that is none": (lambda good: with_config(good, field_separator=5), "config is not one"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_model_that_would_answer_nonsense_or_be_larger_than_its_file_is_refused(trained, tmp_path, kind, monkeypatch):
    good = read_checkpoint(trained / "model.pth")
    spoil, message = SPOILT[kind]
    write_checkpoint(tmp_path / "model.pth", spoil(good))
    made = numbers_made(monkeypatch)
    with pytest.raises(CheckpointError, match=message):
        Recommender.load(tmp_path / "model.pth")
    assert sum(made) <= sum(value.numel() for value in good["state_dict"].values())


def test_nor_is_it_made_by_the_other_readers(trained, tmp_path, monkeypatch):
    good, last = (read_checkpoint(trained / name) for name in ("model.pth", "model-last.pth"))
    spoilt = as_wide_as_one_number(good, 4096)
    write_checkpoint(tmp_path / "model.pth", spoilt)
    write_checkpoint(tmp_path / "model-last.pth", last | {"state_dict": spoilt["state_dict"]})
    for read in (recbole.quick_start.load_data_and_model, lambda file: read_mappings(file.parent)):
        made = numbers_made(monkeypatch)
        with pytest.raises(CheckpointError, match="bytes, which are not in"):
            read(tmp_path / "model.pth")
        assert sum(made) <= sum(value.numel() for value in good["state_dict"].values())


def numbers_made(monkeypatch) -> list[int]:
    """How many numbers each parameter has that is made from now on."""
    made = []
    original = torch.nn.Module.register_parameter

    def watched(module, name, parameter):
        made.append(0 if parameter is None or parameter.is_meta else parameter.numel())
        original(module, name, parameter)

    monkeypatch.setattr(torch.nn.Module, "register_parameter", watched)
    return made


def test_a_model_says_nothing_to_a_service_because_its_file_wants_to(trained, tmp_path):
    write_checkpoint(tmp_path / "model.pth", with_config(read_checkpoint(trained / "model.pth"), log_wandb=True))
    assert not recbole.quick_start.load_data_and_model(str(tmp_path / "model.pth"))[0]["log_wandb"]


@pytest.mark.parametrize("model", ["LRURec", "SASRec"])
def test_pickled_data_that_lies_about_is_never_read(shop, bombs, tmp_path, model):
    """RecBole would read them from checkpoint_dir, whoever has put them there."""
    for dataset in ("TransferDataset", "SequentialDataset", "LRURecDataset", "SASRecDataset"):
        (tmp_path / f"Target-{dataset}.pth").write_bytes(bombs["pickle"])
    (tmp_path / f"Target-for-{model}-dataloader.pth").write_bytes(bombs["pickle"])
    small = {"epochs": 1, "topk": [5, 10], "show_progress": False, "state": "ERROR", "device": "cpu"}
    place = {"data_path": str(shop), "checkpoint_dir": str(tmp_path)}
    run_experiment(model, "Target", overrides=small | place)
    if model == "LRURec":  # RecBole's own entry point, too
        recbole.quick_start.run_recbole(model=model, dataset="Target", config_dict=small | place)
        place |= {"dataset_save_path": str(tmp_path / "Target-TransferDataset.pth")}
        with pytest.raises(ConfigError, match="never unpickled"):
            recbole.quick_start.run_recbole(model=model, dataset="Target", config_dict=small | place)


def test_text_vectors_in_the_cache_are_arrays_of_numbers(bombs, tmp_path, monkeypatch):
    monkeypatch.setenv("METAREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "texts").mkdir(parents=True)
    for kind, content in bombs.items():
        (tmp_path / "cache" / "texts" / f"{kind}.npy").write_bytes(content)
        assert _cached(kind, 2, lambda: np.ones((2, 3))).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_s3rec_reads_no_pickle_unasked(tmp_path, bombs):
    shop = write_shop_with_kinds(tmp_path)
    given = ONE_LAYER | OF_MODEL["S3Rec"] | {"epochs": 2, "pretrain_epochs": 1, "data_path": str(shop)}
    given |= {"checkpoint_dir": str(tmp_path / "saved")}
    (tmp_path / "foreign.pth").write_bytes(bombs["whole"])
    with pytest.raises(CheckpointError, match="trust_pickle"):
        run_experiment(
            "S3Rec", "Target", overrides=given | {"train_stage": "finetune", "pre_model_path": "foreign.pth"}
        )
    run_dir = run_experiment("S3Rec", "Target", overrides=given).run_dir
    (run_dir / "metrics.json").unlink()
    (run_dir / "pretrained.pth").write_bytes(bombs["whole"])
    with pytest.raises(CheckpointError, match=r"pretrained\.pth"):
        run_experiment(resume=run_dir)


HOSTILE_TEXTS = (
    "__import__('os').makedirs('it-ran')",
    "[__import__('os').makedirs('it-ran')]",
    "{'a': open('it-ran', 'w')}",
)
HOSTILE_YAML = (
    "seed: !!python/object/apply:os.makedirs ['it-ran']",
    "seed: !!python/object/new:os.makedirs ['it-ran']",
    "topk: [10, !!python/object/apply:os.makedirs ['it-ran']]",
    "eval_args: {mode: !!python/object/apply:subprocess.check_output [[mkdir, it-ran]]}",
)


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_a_text_given_for_a_key_is_never_a_program(shop, monkeypatch, text, capsys):
    wrong = {"seed": text, "topk": [text], "eval_args": {"mode": text}, "wandb_project": text, "valid_metric": text}
    for key, value in wrong.items():
        try:
            recbole_config(RunConfig.read("LRURec", "Target", (), {"data_path": str(shop), key: value}))
        except MetaRecError as error:
            assert key in str(error)
        else:
            assert key == "wandb_project"
        with pytest.raises(Exception):  # noqa: B017  (whatever RecBole makes of it, it must not run)
            recbole.quick_start.run_recbole(
                model="LRURec", dataset="Target", config_dict={"data_path": str(shop), key: value, "epochs": "x"}
            )
        assert main(["train", "--dataset", "Target", "--data_path", str(shop), f"--{key}={text}", "--epochs=x"]) == 2
        Path("own.yaml").write_text(f"{key}: {json.dumps(value)}\nepochs: x\n")
        assert main(["train", "--dataset", "Target", "--data_path", str(shop), "--config_files", "own.yaml"]) == 2
        monkeypatch.setattr(sys, "argv", ["run", f"--{key}={text}", "--epochs=x"])
        with pytest.raises(Exception):  # noqa: B017
            recbole.quick_start.run_recbole(model="LRURec", dataset="Target", config_dict={"data_path": str(shop)})
        monkeypatch.setattr(sys, "argv", ["run"])
        assert not os.path.exists("it-ran")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("text", HOSTILE_YAML)
def test_a_config_file_builds_no_object(shop, text, capsys):
    Path("own.yaml").write_text(f"epochs: 1\n{text}\n")
    assert main(["train", "--dataset", "Target", "--data_path", str(shop), "--config_files", "own.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: own.yaml:2: ") and error.count("\n") == 1
    with pytest.raises(Exception):  # noqa: B017
        recbole.quick_start.run_recbole(
            model="LRURec", dataset="Target", config_file_list=["own.yaml"], config_dict={"data_path": str(shop)}
        )
    assert not os.path.exists("it-ran")
