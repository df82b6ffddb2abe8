"""Words in messages."""

import numpy as np

from recbole_metarec.config.dataset_files import known_domains
from recbole_metarec.config.suggestions import nearest, show


def test_nearest():
    assert nearest("Sciencific", known_domains()) == "Scientific"
    assert nearest("OFFICE", known_domains()) == "Office"
    assert nearest("cellphones", known_domains()) == "Cell_Phones"
    assert nearest("qqqq", known_domains()) is None
    assert nearest("anything", []) is None


def test_one_slip_in_a_name_out_of_very_many_is_found():
    """Whatever the slip: a letter changed, left out, put in or exchanged with its neighbour, at any place."""
    random = np.random.default_rng(0)
    names = ["".join(random.choice(list("abcdefgh0123"), 10)) for _ in range(3000)]
    name = names[1234]
    slips = {name[:i] + "x" + name[i + 1 :] for i in range(10)} | {name[:i] + name[i + 1 :] for i in range(10)}
    slips |= {name[:i] + "x" + name[i:] for i in range(11)}
    slips |= {name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in range(9)}
    assert {nearest(slip.upper(), names) for slip in slips} == {name}
    assert nearest("zzzz", names) is None and nearest("", names) is None


def test_show():
    assert show("a\nb") == "a b" and show("") == "''" and show(["a"]) == "['a']"
    assert len(show("x" * 100)) == 60 and show("x" * 100).endswith("...")
