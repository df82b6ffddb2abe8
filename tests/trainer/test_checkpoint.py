"""A checkpoint is written whole or not at all, also where the disk is full."""

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recbole_metarec.errors import CheckpointError
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_written_is_read_again(tmp_path):
    write_checkpoint(tmp_path / "model.pth", {"x": torch.arange(3.0), "items": ["", "a"]})
    content = read_checkpoint(tmp_path / "model.pth")
    assert torch.equal(content["x"], torch.arange(3.0)) and content["items"] == ["", "a"]
    assert os.listdir(tmp_path) == ["model.pth"]


def test_a_checkpoint_of_recboles_own_is_called_so_without_a_warning(tmp_path):
    """RecBole's Trainer pickles its Config, in a protocol about which PyTorch warns."""
    torch.save({"config": SimpleNamespace(seed=1)}, tmp_path / "model.pth", pickle_protocol=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match=r"model\.pth: a pickle, as models of RecBole's own are saved"):
            read_checkpoint(tmp_path / "model.pth")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_said_in_one_line_and_leaves_the_old_file(tmp_path):
    file = tmp_path / "model.pth"
    write_checkpoint(file, {"x": torch.zeros(10)})
    before = file.read_bytes()
    # a limit on the size of files is what a test can have of a full disk: a write comes back short, with an errno
    program = """
        import resource, signal, sys
        import torch
        from recbole_metarec.errors import DataError
        from recbole_metarec.trainer.checkpoint import write_checkpoint

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        try:
            write_checkpoint(sys.argv[1], {"x": torch.zeros(10**6)})
        except DataError as error:
            sys.exit(0 if "model.pth: cannot be written (" in str(error) else 2)
        sys.exit(1)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(file)], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["model.pth"]
