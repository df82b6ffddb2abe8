"""What a test needs of a machine that is full or forbids: also where it runs as root, whom nothing is forbidden."""

import ctypes
import os
import resource
import sys
from contextlib import contextmanager

import pytest

_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_VERSION_3 = 0x20080522


@contextmanager
def rights_that_count():
    """Within, the modes of files hold for this thread, also if it is root's."""
    if os.geteuid() != 0:
        yield
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("root may write everywhere")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits of each
    if libc.capget(header, sets) != 0:
        pytest.skip("capabilities cannot be read")
    before = sets[0]
    sets[0] = before & ~_OVERRIDES
    if libc.capset(header, sets) != 0:
        pytest.skip("capabilities cannot be given up")
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(header, sets)


@contextmanager
def files_limited_to(size: int):
    """Within, no file of this process grows beyond ``size`` bytes, and the write that would says so: as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
