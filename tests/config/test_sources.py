"""The words for source domains, and what cannot be one."""

import pytest

from recbole_metarec.config.sources import source_fault, source_names


@pytest.mark.parametrize(
    ("given", "names"),
    [("auto", "auto"), (" AUTO ", "auto"), ("none", []), ("None", []), (None, []), ("", []), ([], []), ((), []),
     ("A", ["A"]), ("A, B", ["A", "B"]), (["A ", "B"], ["A", "B"]), ("A,,B", ["A", "", "B"])],
)  # fmt: skip
def test_source_names(given, names):
    assert source_names(given) == names


def test_a_source_stands_once_and_is_not_the_target():
    assert source_fault(["A", "B"], "C") is None and source_fault([], "C") is None
    assert source_fault(["A", "B", "A"], "C") == ("source A is given twice", "name each source once")
    assert source_fault(["A", "C"], "C")[0] == "the target C is among its sources"
