"""What makes two planned runs the same one."""

from dataclasses import replace

import pytest
from support.fake_runs import planned

from recbole_metarec.config import saved_config
from recbole_metarec.jobs import job


@pytest.fixture
def run(tmp_path):
    (tmp_path / "data").write_text("1")
    return planned(tmp_path, data=tmp_path / "data")


def with_config(run, **keys):
    return replace(run, config={**run.config, **keys})


def test_each_part_of_the_identity_makes_another_run(run):
    others = [
        replace(run, experiment="B"), replace(run, dataset="Market"), replace(run, sources=["S"]), replace(run, seed=2),
        with_config(run, learning_rate=0.2), replace(run, data="1"),
    ]  # fmt: skip
    for identity in ("key", "recipe"):
        assert len({getattr(own, identity) for own in (run, *others)}) == 1 + len(others)
    assert replace(run, code="1").key != run.key and replace(run, code="1").recipe == run.recipe


def test_what_belongs_to_a_machine_or_to_showing_does_not_make_another_run(run):
    moved = with_config(run, data_path="/elsewhere", device="cuda:0", checkpoint_dir="x", show_progress=True, seed=9)
    shown = replace(moved, model="by another name", folder="x", command="x", overrides={"a": 1}, trials=3, shown_as="y")
    shown = replace(shown, data_files=["/elsewhere/data"], config=dict(reversed(shown.config.items())))
    assert (shown.key, shown.recipe) == (run.key, run.recipe)


def test_numbers_are_the_same_however_they_were_typed(run):
    assert with_config(run, temperature=1).key == with_config(run, temperature=1.0).key
    assert len({with_config(run, vq=value).key for value in (1, 1.5, "1", [1], None, False)}) == 6


def test_a_key_that_is_added_later_changes_no_identity_where_it_changes_nothing(run, monkeypatch):
    later, used = (with_config(run, text_alignment=value) for value in (False, True))
    assert later.recipe != run.recipe
    monkeypatch.setitem(saved_config.BEFORE, "text_alignment", False)
    later, used = (with_config(run, text_alignment=value) for value in (False, True))
    assert later.recipe == run.recipe != used.recipe


def test_a_run_without_texts_is_the_same_whatever_its_texts_would_be_read_by(run):
    def key(**keys) -> str:
        return with_config(run, **({"text_width": 256, "text_alignment": False} | keys)).key

    later = {"text_space": "target", "text_whitening": False}
    assert key() == key(text_width=512) == key(**later)
    assert len({key(text_alignment=True, **keys) for keys in ({}, later, {"text_width": 512})}) == 3


def test_a_run_without_a_memory_is_the_run_of_before_whatever_the_memory_would_be(run):
    off = {"seen_offset": False, "item_memory": False}
    memory = {
        "memory_neighbours": 500,
        "memory_form": "scalars",
        "memory_texts": "auto",
        "memory_from": None,
        "memory_learning_rate": 0.03,
    }
    assert run.recipe == with_config(run, **off, **memory).recipe
    assert run.recipe == with_config(run, **off, **memory | {"memory_neighbours": 9, "memory_learning_rate": 1}).recipe
    offset = off | {"seen_offset": True}
    others = [off | {"item_memory": True}, offset, offset | {"memory_learning_rate": 1.0}]
    assert len({with_config(run, **memory | given).recipe for given in [off, *others]}) == 4
    texts = {"text_alignment": False, "memory_texts": True, "text_width": 9, **off}
    assert with_config(run, **memory | texts).recipe == with_config(run, **memory | texts | {"text_width": 8}).recipe
    texts["item_memory"] = True
    assert with_config(run, **memory | texts).recipe != with_config(run, **memory | texts | {"text_width": 8}).recipe


def test_a_run_is_read_as_it_was_written(run, tmp_path):
    run.write(tmp_path / "run.json")
    assert job.PlannedRun.read(tmp_path / "run.json") == run
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="run.json: not a planned run"):
        job.PlannedRun.read(tmp_path / "run.json")
