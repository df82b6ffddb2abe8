"""Checkpoints of plain data: tensors, numbers and texts, with the config as JSON. Nothing in them is executed."""

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from recbole_metarec.errors import CheckpointError, MetaRecError
from recbole_metarec.files import write_atomically
from recbole_metarec.model.network import SequenceNetwork

FORMAT = "recbole-metarec-1"
WRITE_REMEDY = "free some space, or choose a checkpoint_dir that you may write to"


def write_checkpoint(path: str | Path, content: dict) -> None:
    """Writes tensors and plain values atomically: the file is either the old one or the new one, whole.

    Raises DataError, with the old file untouched, if the disk is full or may not be written to.
    """
    # in memory first: torch.save reports a full disk by a RuntimeError about its zip container
    packed = io.BytesIO()
    torch.save({"format": FORMAT, **content}, packed)
    write_atomically(Path(path), [packed.getbuffer()], WRITE_REMEDY)


def read_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> dict:
    """Reads what :func:`write_checkpoint` wrote; nothing in the file is ever executed.

    Raises CheckpointError if the file is absent, truncated, or not of this package's format.
    """
    try:
        _check_container(path)
        content = load_plain(path, device)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint; give the path of a .pth file in saved/") from error
    except Exception as error:  # torch reports a damaged or hostile file by many types
        what = "truncated, or not a checkpoint of this package; put back a sound copy or train again"
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            what = "a pickle, as models of RecBole's own are saved, is not read; give a model of this package's"
        raise CheckpointError(f"{path}: {what}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this package; give the path of a .pth file in saved/")
    return content


def load_plain(path, device):
    """Tensors and plain values that ``torch.save`` wrote. Raises what ``torch.load`` raises for anything else.

    Its older formats are refused: there ``weights_only`` runs code with PyTorch < 2.6 (CVE-2025-32434).
    """
    with open(path, "rb") as file:
        head = file.read(4)
    if not head:
        raise EOFError("the file is empty")
    if head != b"PK\x03\x04":
        raise pickle.UnpicklingError("not the zip that torch.save writes")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Detected pickle protocol", category=UserWarning
        )  # of RecBole's files
        return torch.load(path, map_location=device, weights_only=True)


def _check_container(path: str | Path) -> None:
    """Raises BadZipFile for a flipped bit, which PyTorch overlooks, and for what would unpack to more than the file."""
    if not zipfile.is_zipfile(path):
        return  # load_plain refuses it
    with zipfile.ZipFile(path) as container:
        parts = container.infolist()
        is_packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        if is_packed or sum(part.file_size for part in parts) > os.path.getsize(path) or container.testzip():
            raise zipfile.BadZipFile


def load_model(make: Callable[[], torch.nn.Module], content: dict, path: str | Path) -> torch.nn.Module:
    """The model that ``make`` builds, with the weights of a checkpoint's ``content``. path: of the file, for messages.

    It is built on the meta device first, without memory, so that a small file cannot ask for a large model. Raises
    CheckpointError if the sizes make no model, or if the weights do not fit.
    """
    try:
        with torch.device("meta"), _ShapesAlone():
            sketch = make()
    except MetaRecError:
        raise
    except (RuntimeError, ValueError, MemoryError) as error:  # sizes that no tensor has, or that do not go together
        raise CheckpointError(f"{path}: its sizes make no model; train again") from error
    weights_for(sketch, content, path)
    size = sum(value.numel() * value.element_size() for value in (*sketch.parameters(), *sketch.buffers()))
    if size > os.path.getsize(path):
        raise CheckpointError(f"{path}: its config asks for {size} bytes, which are not in the file; train again")
    model = make()
    load_weights(model, content, path)
    return model


class _ShapesAlone(TorchFunctionMode):
    """While this is open, the constructors of our networks neither draw nor compute numbers on the meta device.

    There is nothing to compute there, yet the first computation imports PyTorch's compiler, which takes as long as
    importing PyTorch itself.
    """

    spared = (nn.init.normal_, nn.init.trunc_normal_, Tensor.normal_, Tensor.mul, Tensor.__neg__)
    spared += (torch.log, torch.log1p)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in self.spared:
            first, *others = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            if first.is_meta and first.is_floating_point() and not others:
                return first
        return function(*args, **kwargs)


def load_weights(model: torch.nn.Module, content: dict, path: str | Path) -> None:
    """Puts a checkpoint's weights into a model with exactly the same names and shapes.

    Raises CheckpointError naming the first difference, or the first tensor with a number that is not finite.
    """
    weights = weights_for(model, content, path)
    for name, value in weights.items():
        if not value.isfinite().all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite; train again")
    model.load_state_dict(weights)


def weights_for(model: torch.nn.Module, content: dict, path: str | Path) -> Mapping[str, torch.Tensor]:
    """A checkpoint's weights, by name, if their names, dtypes and shapes are exactly those of the model.

    Raises CheckpointError naming the first difference.
    """
    saved = content.get("state_dict")
    if not isinstance(saved, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in saved.items()
    ):
        raise CheckpointError(f"{path}: holds no weights; take another checkpoint")
    wanted, weights = model.state_dict(), model.completed(saved) if isinstance(model, SequenceNetwork) else saved
    different = sorted(set(wanted) ^ set(weights))
    if different:
        raise CheckpointError(
            f"{path}: of another model: {different[0]} is on one side only; load it with the config it was saved with"
        )
    for name, value in wanted.items():
        if (value.dtype, value.layout) != (weights[name].dtype, weights[name].layout):
            raise CheckpointError(f"{path}: {name} is {weights[name].dtype}, the model's is {value.dtype}; train again")
        if value.shape != weights[name].shape:
            raise CheckpointError(
                f"{path}: {name} is {tuple(weights[name].shape)}, the model's is {tuple(value.shape)}; "
                "the data or embedding_size has changed since"
            )
    return weights
