"""A saved model as ONNX graphs, which any language can run: one more event, a whole history, all scores."""

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from recbole_metarec.errors import ConfigError
from recbole_metarec.files import make_dir, publish_folder
from recbole_metarec.serve import Recommender
from recbole_metarec.serving.graphs import Graph, graphs_of

_FORMAT = "recbole-metarec-onnx-1"


def export_onnx(recommender: Recommender, output: str | Path) -> Path:
    """Writes ``step.onnx``, ``history.onnx``, ``scores.onnx`` and ``items.json`` to a new folder, whole or not at all.

    items.json: the names of the items, number 1 first; ``longest``, the length of a history, padded in front with 0;
    and what each graph reads and returns. A user without any event has a state and a history of zeros.
    Raises ConfigError for a folder that is there already, for a model that is not one of LRURec, MetaRec and UniSRec,
    and without the libraries that PyTorch exports with.
    """
    folder = Path(output).expanduser()
    if folder.exists():
        raise ConfigError(f"{folder}: is there already; remove it, or give another --output")
    try:
        graphs = graphs_of(recommender.network)
    except TypeError:
        model = type(getattr(recommender.network, "model", recommender.network)).__name__
        raise ConfigError(f"{model}: it has no ONNX graphs; take a run of LRURec, MetaRec or UniSRec") from None
    built = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=make_dir(folder.absolute().parent)))
    try:
        for name, graph in graphs.items():
            (built / f"{name}.onnx").write_bytes(to_onnx(graph))
        content = {"format": _FORMAT, "items": recommender.items, "longest": recommender.network.longest}
        content["graphs"] = {name: {"reads": list(g.inputs), "returns": g.outputs} for name, g in graphs.items()}
        (built / "items.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        built.chmod(0o755)
        return publish_folder(built, folder)
    finally:
        shutil.rmtree(built, ignore_errors=True)


def to_onnx(graph: Graph) -> bytes:
    """A module as an ONNX model in which the number of rows is free. Raises ConfigError without PyTorch's exporter."""
    batch = {0: torch.export.Dim("batch")}
    try:
        with _quiet_exporter():
            return torch.onnx.export(
                graph.module.eval(),
                tuple(graph.inputs.values()),
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=tuple(batch for _ in graph.inputs),
                dynamo=True,
                verbose=False,
            ).model_proto.SerializeToString()
    except ImportError as error:
        raise ConfigError(f"ONNX: {error}; pip install 'recbole-metarec[onnx]'") from error


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Within, PyTorch's exporter does not tell of every library and attribute that it finds no use for."""
    levels = {log: log.level for log in map(logging.getLogger, ("torch.onnx", "onnx_ir", "onnxscript"))}
    for log in levels:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in levels.items():
            log.setLevel(level)
