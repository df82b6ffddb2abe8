"""Whether the GPU that a user asked for is there."""

import os

from recbole_metarec.config.origins import DEFAULTS, fail
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.config.suggestions import show


def check_gpu(run: RunConfig) -> None:
    """Raises ConfigError for a GPU that the user asked for, by ``device: cuda`` or a ``gpu_id``, and that is not there.

    ``use_gpu: True`` and ``gpu_id: 0`` as RecBole's defaults only mean "if there is one".
    """
    device = str(run["device"] or "")
    wishes = {"device": device.startswith("cuda"), "gpu_id": run["gpu_id"] not in (None, "", ())}
    asked = [key for key, is_wish in wishes.items() if is_wish and run.origin(key) != DEFAULTS]
    if not asked or run["use_gpu"] is False or device == "cpu":
        return
    import torch  # takes seconds, which a command that asks for no GPU need not wait for

    key, value = asked[0], show(str(run[asked[0]]))
    if not torch.cuda.is_available():
        fail(run.user.origins, key, f"{key} is {value}, but PyTorch sees no GPU", f"remove {key}, or use device: cpu")
    numbers = [part.strip() for part in str(run["gpu_id"]).strip("()[]").split(",")]
    count = torch.cuda.device_count()
    is_counted = "CUDA_VISIBLE_DEVICES" not in os.environ and all(number.isdigit() for number in numbers)
    if "gpu_id" in asked and is_counted and max(map(int, numbers)) >= count:
        problem = f"gpu_id is {show(str(run['gpu_id']))}, but there are {count} GPUs, counted from 0"
        fail(run.user.origins, "gpu_id", problem, f"use a number below {count}")
