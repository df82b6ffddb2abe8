"""Memory that cannot be had ends a run in one line, whoever says so."""

import numpy as np
import pytest
import torch
from support.worlds import TINY, write_shop

from recbole_metarec import quick_start
from recbole_metarec.cli.main import main
from recbole_metarec.errors import ConfigError, enough_memory

HUGE = 2**45  # no machine has so many numbers


@pytest.mark.parametrize(
    "ask",
    [lambda: torch.ones(HUGE), lambda: np.ones(HUGE), lambda: bytearray(HUGE), lambda: torch.ones(HUGE, HUGE)],
)
def test_every_way_to_say_that_there_is_no_memory(ask):
    message = r"^there is not enough memory .*; lower train_batch_size, "
    with pytest.raises(ConfigError, match=message) as caught, enough_memory():
        ask()
    assert isinstance(caught.value.__cause__, (MemoryError, RuntimeError))


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), KeyError("memory")])
def test_anything_else_stays_what_it_is(error):
    with pytest.raises(type(error)) as caught, enough_memory():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("place", ["_fit", "_read"])
def test_a_run_that_is_too_large_is_one_line(place, tmp_path, capsys, monkeypatch):
    def fills_memory(*given):
        torch.ones(HUGE)

    monkeypatch.setattr(f"recbole_metarec.runs.training.{place}", fills_memory)
    keys = TINY | {"data_path": str(write_shop(tmp_path)), "sources": "Near", "state": "ERROR", "device": "cpu"}
    for run in (quick_start.run_experiment, quick_start.validate_experiment):
        with pytest.raises(ConfigError, match="^there is not enough memory"):
            run("MetaRec", "Target", overrides=keys)
    words = [f"--{key}={value}".replace(" ", "") for key, value in keys.items() if key not in ("data_path", "sources")]
    assert main(["train", "--dataset", "Target", "--sources=Near", f"--data_path={tmp_path}", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there is not enough memory ") and error.count("\n") == 1
