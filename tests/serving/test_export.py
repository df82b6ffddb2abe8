"""What is exported as onnxruntime answers it, beside PyTorch; and what cannot be exported."""

import json

import numpy as np
import pytest
import torch
from support.model_cases import CASES, FULLEST, N_ITEMS, make_model

from recbole_metarec.cli import main as cli
from recbole_metarec.errors import ConfigError
from recbole_metarec.model.saved_network import network_to_json
from recbole_metarec.serve import Recommender
from recbole_metarec.serving import export
from recbole_metarec.serving.graphs import graphs_of
from recbole_metarec.trainer.checkpoint import write_checkpoint

onnxruntime = pytest.importorskip("onnxruntime", reason="needs recbole-metarec[onnx]")
pytest.importorskip("onnxscript", reason="needs recbole-metarec[onnx]")

NAMES = ["[PAD]", *(f"item, {number} ü" for number in range(1, N_ITEMS))]
TOLD = {str(case): case for case in (FULLEST, *CASES)}


def saved(case: str, file):
    """The file of a model with all that it may have, in float32."""
    torch.manual_seed(3)
    model = make_model(TOLD[case]).float()
    if getattr(model, "memory", None) is not None:
        model.lru_share.fill_(0.3)
    described = {"items": NAMES, "network": network_to_json(model), "state_dict": model.deployed_weights()}
    config = json.dumps({"model": TOLD[case].model, "dataset": "Shop", "values": ORIGIN})
    write_checkpoint(file, described | {"config": config})
    return file


ORIGIN = {"data_path": "dataset", "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp"}
ORIGIN |= {"field_separator": "\t"}


def test_onnxruntime_answers_as_pytorch_does(tmp_path, capsys):
    file = saved(str(FULLEST), tmp_path / "model.pth")
    assert cli.main(["export", str(file), "--output", str(tmp_path / "onnx")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path / 'onnx'}: step, history and scores of {N_ITEMS - 1} items; ") and not err
    assert {path.name for path in tmp_path.iterdir()} == {"model.pth", "onnx"}
    told = json.loads((tmp_path / "onnx" / "items.json").read_text(encoding="utf-8"))
    sessions = {name: onnxruntime.InferenceSession(tmp_path / "onnx" / f"{name}.onnx") for name in told["graphs"]}
    recommender, longest = Recommender.load(file), told["longest"]

    def run(name: str, known: dict) -> dict:
        graph = told["graphs"][name]
        values = sessions[name].run(graph["returns"], {key: known[key] for key in graph["reads"]})
        return {key.removeprefix("next_"): value for key, value in zip(graph["returns"], values, strict=True)}

    def check(known: dict, states) -> None:
        for row, state in enumerate(states):
            wanted = dict(recommender.top(state, 100))
            found = dict(zip(told["items"], run("scores", known)["scores"][row, 1:].tolist(), strict=True))
            assert found == pytest.approx(wanted, rel=1e-5, abs=1e-5)

    random = np.random.default_rng(1)
    rows = [random.integers(1, N_ITEMS, length).tolist() for length in (1, 3, longest, longest, longest)]
    history = np.array([[0] * (longest - len(row)) + row for row in rows])
    known = {"history": history} | run("history", {"history": history})
    states = []
    for row in rows:
        states.append(recommender.start())
        for item in row:
            states[-1] = recommender.add(states[-1], told["items"][item - 1])
    check(known, states)
    for _ in range(3):
        items = random.integers(1, N_ITEMS, len(rows))
        known |= run("step", known | {"item": items})
        states = [recommender.add(state, told["items"][item - 1]) for state, item in zip(states, items)]
        check(known, states)
    shapes = {each.name: each.shape for each in sessions["step"].get_inputs()}
    nobody = {name: np.zeros([1, *shape[1:]], np.float32) for name, shape in shapes.items() if name == "state"}
    nobody |= {"history": np.zeros((1, longest), np.int64), "item": np.array([4])}
    check(nobody | run("step", nobody), [recommender.add(recommender.start(), told["items"][3])])


def test_a_step_of_unisrec_answers_as_pytorch_does(tmp_path):
    network = Recommender.load(saved("UniSRec of texts and ids", tmp_path / "model.pth")).network
    session = onnxruntime.InferenceSession(export.to_onnx(graphs_of(network)["step"]))
    rows = [[3, 1, 4], [2], [1, 5, 9, 2, 6, 5]]
    history = np.array([[0] * (network.longest - len(row)) + row for row in rows])
    output, after = session.run(None, {"item": np.array([7, 8, 9]), "history": history})
    assert after[:, -1].tolist() == [7, 8, 9] and after[0, -4:].tolist() == [3, 1, 4, 7]
    for row, item, found in zip(rows, [7, 8, 9], output, strict=True):
        with torch.no_grad():
            wanted = network.memory_of([*row, item])[0][0].numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    file = saved("LRURec", tmp_path / "model.pth")
    (tmp_path / "there").mkdir()
    for words, message in (
        ([str(file), "--output", str(tmp_path / "there")], "there: is there already; remove it, or give another"),
        ([str(file), "--format", "zip"], "--format: "),
        ([str(tmp_path / "absent.pth")], "absent.pth: no such checkpoint; "),
    ):
        assert cli.main(["export", *words]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    monkeypatch.setattr(torch.onnx, "export", lambda *given, **more: exec("raise ImportError('no onnxscript')"))
    assert cli.main(["export", str(file)]) == 2
    assert "error: ONNX: no onnxscript; pip install 'recbole-metarec[onnx]'" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pth", "there"]


def test_a_model_that_is_served_through_its_data_has_no_graphs(tmp_path):
    case = TOLD["LRURec"]
    network = make_model(case)  # of RecBole's class, not the network that serves
    with pytest.raises(ConfigError, match="LRURec: it has no ONNX graphs; take a run of"):
        export.export_onnx(Recommender(network, NAMES), tmp_path / "onnx")
    assert not list(tmp_path.iterdir())
