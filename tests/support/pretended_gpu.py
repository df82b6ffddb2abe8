"""A GPU that is none: tensors of a CPU that say they are on ``cuda``, and must not meet those that are not.

Within :func:`pretended_gpu` whatever is made on, or moved to, ``cuda`` is marked (by its memory, so that views are,
too), and its ``device`` says so. Every operation of PyTorch is looked at below autograd, backward passes included: one
that mixes both kinds, as a GPU would refuse, raises Mixed. Counted are the kernels that a GPU would start, and the
waits: what asks the GPU for a number, or for a shape that depends on numbers.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
_ASK = {
    *("_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "equal"),
    *("bincount", "repeat_interleave", "_coalesce"),
}  # what makes the host wait for a GPU
_MOVE = {"copy_", "_to_copy", "_copy_from"}
_NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "set_", "resize_"}
_NO_KERNEL |= {"_sparse_coo_tensor_with_dims_and_tensors", "_coalesced_", "_values", "_indices", "_nnz", "is_coalesced"}
_BY_INDEX = {"index", "index_put", "index_put_", "_index_put_impl_"}  # take indices of the CPU, and wait for them
_FACTORY_WAITS = {"tensor", "as_tensor"}


class Mixed(AssertionError):
    """Tensors of the CPU and of the GPU in one operation."""


class Counts:
    """kernels: by operation. waits: by operation and the line of ours that asks."""

    def __init__(self):
        self.kernels, self.waits = Counter(), Counter()

    def wait(self, what: str) -> None:
        self.waits[f"{what}, {_ours()}"] += 1


def _ours() -> str:
    frames = [frame for frame in traceback.extract_stack() if "recbole_metarec/" in frame.filename]
    return f"{frames[-1].filename.rpartition('recbole_metarec/')[2]}:{frames[-1].lineno}" if frames else "elsewhere"


def _memories(tensor: Tensor) -> list:
    if tensor.layout == torch.sparse_coo:
        return [tensor._values().untyped_storage(), tensor._indices().untyped_storage()]
    return [tensor.untyped_storage()]


def is_on_gpu(tensor: Tensor) -> bool:
    """Whether it is marked."""
    with torch._C.DisableTorchFunction():
        return getattr(_memories(tensor)[0], "pretends", False)


def _mark(tensor: Tensor, on_gpu: bool = True) -> Tensor:
    with torch._C.DisableTorchFunction():
        for memory in _memories(tensor):
            memory.pretends = on_gpu
    return tensor


def _is_gpu(device) -> bool:
    return device is not None and not isinstance(device, Tensor) and torch.device(device).type == "cuda"


class _Generator(torch.Generator):
    """One of the CPU that says where it is meant to be."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu")
        made.place = torch.device(device)
        return made

    def __init__(self, device="cpu"):
        pass

    @property
    def device(self):
        return self.place


class _Operations(TorchDispatchMode):
    """Looks at every operation below autograd."""

    def __init__(self, counts: Counts):
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        marked = [is_on_gpu(tensor) for tensor in tensors]
        if any(marked) and name not in _MOVE:
            self._check(name, tensors, marked)
        found = function(*args, **kwargs)
        if any(marked) and name != "copy_":
            for leaf in tree_leaves(found):
                if isinstance(leaf, Tensor):
                    _mark(leaf)
        if any(marked) and not function.is_view and name not in _NO_KERNEL:
            self.counts.kernels[name] += 1
        if any(marked) and (name in _ASK or (name in _BY_INDEX and self._by_mask(tensors))):
            self.counts.wait(name)
        if name == "copy_" and marked[0] != marked[1] and not marked[0]:
            self.counts.wait("copy to the CPU")
        return found

    def _by_mask(self, tensors) -> bool:
        return any(tensor.dtype == torch.bool for tensor in tensors[1:])

    def _check(self, name: str, tensors: list[Tensor], marked: list[bool]) -> None:
        # a single number of the CPU may meet a GPU's tensors; so may indices
        apart = [t for t, on_gpu in zip(tensors, marked, strict=True) if not on_gpu and t.dim()]
        if apart and not (name in _BY_INDEX and marked[0]):
            raise Mixed(f"{name} mixes GPU and CPU {[tuple(t.shape) for t in apart]}, {_ours()}")
        if apart:
            self.counts.wait(f"{name} by an index of the CPU")


class _Calls(TorchFunctionMode):
    """Turns what asks for the GPU into what a CPU can do, and answers for it."""

    def __init__(self, counts: Counts):
        super().__init__()
        self.counts = counts

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        attribute = getattr(getattr(function, "__self__", None), "__name__", "") if name == "__get__" else ""
        if attribute == "device":
            return GPU if is_on_gpu(args[0]) else function(*args)
        if attribute == "is_cuda":
            return is_on_gpu(args[0])
        if name in ("to", "cpu", "cuda") and isinstance(args[0], Tensor):
            return self._moved(function, name, *args, **kwargs)
        if name in ("numpy", "__array__") and is_on_gpu(args[0]):
            raise Mixed(f"{name} of a tensor on the GPU, {_ours()}")
        if name == "tolist" and is_on_gpu(args[0]):
            self.counts.wait(name)
        if name == "new_tensor" and is_on_gpu(args[0]):
            self.counts.wait("new_tensor to the GPU")
            return _mark(function(*args, **kwargs))
        self._check_generator(name, args, kwargs)
        if "device" not in kwargs:
            return function(*args, **kwargs)
        on_gpu = _is_gpu(kwargs["device"])
        found = function(*args, **kwargs | ({"device": CPU} if on_gpu else {}))
        if on_gpu and name in _FACTORY_WAITS:
            self.counts.wait(f"{name} to the GPU")
        return _mark(found) if on_gpu else found

    def _check_generator(self, name: str, args, kwargs) -> None:
        generator = kwargs.get("generator")
        if generator is None:
            return
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        on_gpu = _is_gpu(kwargs["device"]) if kwargs.get("device") else bool(tensors) and is_on_gpu(tensors[0])
        if on_gpu != _is_gpu(generator.place):
            raise Mixed(f"{name} by a generator of {generator.place}, {_ours()}")

    def _moved(self, function, name: str, tensor: Tensor, *args, **kwargs) -> Tensor:
        places = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, torch.device | str)]
        places += [GPU if is_on_gpu(arg) else CPU for arg in args if isinstance(arg, Tensor)]
        places += {"cpu": [CPU], "cuda": [GPU]}.get(name, [])
        was, goes = is_on_gpu(tensor), _is_gpu(places[0]) if places else is_on_gpu(tensor)
        kept = [arg for arg in args if isinstance(arg, torch.dtype)]
        kept += [arg.dtype for arg in args if isinstance(arg, Tensor)]
        dtype = kwargs.get("dtype", kept[0] if kept else tensor.dtype)
        with torch._C.DisableTorchFunction():
            found = torch.Tensor.to(tensor, dtype)
            found = found.clone() if was != goes and found is tensor else found
        if was and not goes:
            self.counts.wait("to the CPU")
        return _mark(found, goes) if was != goes or found is not tensor else found


def _module_to(module, *args, **kwargs):
    """``nn.Module.to`` moves by the memory of its tensors, which is what is marked."""
    device = next((arg for arg in (*args, *kwargs.values()) if isinstance(arg, torch.device | str)), None)
    for tensor in (*module.parameters(), *module.buffers()):
        if device is not None:
            _mark(tensor, _is_gpu(device))
    return module


@contextmanager
def pretended_gpu() -> Iterator[Counts]:
    """Within, ``cuda`` is there. Gives what is counted."""
    counts, load = Counts(), torch.load

    def loaded(file, map_location=None, **kwargs):
        found = load(file, map_location="cpu", **kwargs)
        for leaf in tree_leaves(found) if _is_gpu(map_location) else ():
            if isinstance(leaf, Tensor):
                _mark(leaf)
        return found

    with (
        patch("torch.Generator", _Generator),
        patch("torch.load", loaded),
        patch("torch.nn.Module.to", _module_to),
        patch("torch.autograd.has_torch_function", lambda *_: False),  # else the mode is off in backward passes
        _Operations(counts),
        _Calls(counts),
    ):
        yield counts
