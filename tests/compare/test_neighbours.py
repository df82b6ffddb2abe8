"""Neighbours across domains: a planted mapping is found, and texts are as alike as they were made."""

import numpy as np
import pytest
import torch
from scipy import stats
from support.worlds import TINY, write_items, write_shop

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole_metarec.cli import main as cli
from recbole_metarec.compare.neighbours import likeness, paired_interval, read_mappings
from recbole_metarec.data.text_vectors import TextSpace, encode_domains
from recbole_metarec.evaluation.intervals import mean_interval
from recbole_metarec.model.quantizer import nearest_codes
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.usefixtures("without_pictures")

HEADS = 2


@pytest.fixture(scope="module")
def run(shop, tmp_path_factory):
    """A run whose source Near was given the target's vectors: (folder, codes [n, H] that were planted, from 0)."""
    saved = tmp_path_factory.mktemp("saved")
    keys = {**TINY, "epochs": 1, "vq_heads": HEADS, "sources": ["Near", "Far"], "data_path": str(shop)}
    keys |= {"state": "ERROR", "device": "cpu", "show_progress": False, "checkpoint_dir": str(saved)}
    folder = run_experiment("MetaRec", "Target", overrides=keys | {"transfer_guard": False}).run_dir
    state = read_checkpoint(folder / "model-last.pth")
    target = state["state_dict"]["item_embedding.weight"]
    table = state["source_sides"]["sides"]["Near"]["table"]
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, len(target) - 1, (len(table) - 1, HEADS), generator=generator)
    codes[: len(codes) // 2, 1] = codes[: len(codes) // 2, 0]  # the first half is whole target items
    slices = [part[codes[:, head] + 1] for head, part in enumerate(target.chunk(HEADS, dim=1))]
    table[1:] = torch.cat(slices, dim=1)
    state.pop("format")
    write_checkpoint(folder / "model-last.pth", state)
    return folder, codes.numpy()


@pytest.fixture
def texts(shop, run):
    """Texts by which a source item and its first planted code say the same; gone after the test."""
    found = read_mappings(run[0], ["Near"], k=1)
    (mapping,) = found.sources

    def write(dealt: bool = False) -> None:
        words = {number: f"word{number} kind{number % 3}" for number in range(len(found.target.names))}
        write_items(shop, "Target", {name.split("-")[1]: words[n] for n, name in enumerate(found.target.names)})
        codes = run[1][:, 0]
        codes = np.random.default_rng(0).permutation(codes) if dealt else codes
        write_items(shop, "Near", {name.split("-")[1]: words[codes[n]] for n, name in enumerate(mapping.source.names)})

    yield write
    for name in ("Target", "Near"):
        (shop / name / f"{name}.item").unlink(missing_ok=True)


def test_planted_codes_and_whole_neighbours_are_found(run, shop):
    folder, codes = run
    found = read_mappings(folder, k=3)
    assert [mapping.source.domain for mapping in found.sources] == ["Near", "Far"] and found.epoch == 0
    near = found.sources[0]
    np.testing.assert_array_equal(near.codes, codes)
    half = len(codes) // 2
    np.testing.assert_array_equal(near.nearest[:half, 0], codes[:half, 0])
    assert near.nearest.shape == (len(codes), 3)
    assert found.target.events.sum() == len((shop / "Target" / "Target.inter").read_text().splitlines()) - 1
    # in the order of distance, by brute force
    state = read_checkpoint(folder / "model-last.pth")
    table, target = state["source_sides"]["sides"]["Far"]["table"][1:], state["state_dict"]["item_embedding.weight"][1:]
    order = (table[:, None] - target[None]).square().sum(-1).argsort(dim=1)[:, :3]
    np.testing.assert_array_equal(found.sources[1].nearest, order.numpy())


def test_texts_of_matched_items_are_alike_where_they_were_made_so_and_not_where_they_were_dealt(run, texts):
    texts()
    found = read_mappings(run[0], ["Near"], k=1)
    whole, slices = likeness(found.target, found.sources[0])
    assert (whole.how, slices.how) == ("whole vector", "slices") and slices.pairs == 2 * whole.pairs == run[1].size
    assert whole.apart.low > 0.1 and slices.apart.low > 0.1
    np.testing.assert_allclose(whole.apart.mean, whole.matched - whole.random)
    # half of the items are one target item in both heads, of the others the first head alone is theirs
    assert 0.7 < slices.matched <= 1
    texts(dealt=True)
    found = read_mappings(run[0], ["Near"], k=1)
    assert all(own.apart.holds_zero for own in likeness(found.target, found.sources[0]))


def test_random_is_the_mean_over_all_ways_to_deal_the_matched_items_out(run, texts):
    texts()
    found = read_mappings(run[0], ["Near"], k=1)
    mapping = found.sources[0]
    whole = likeness(found.target, mapping)[0]
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit(found.target.texts + mapping.source.texts)
    ours, theirs = (vectorizer.transform(own).toarray() for own in (mapping.source.texts, found.target.texts))
    cosines = ours @ theirs[mapping.nearest[:, 0]].T
    np.testing.assert_allclose(whole.random, cosines.mean(), rtol=1e-9)
    np.testing.assert_allclose(whole.matched, np.diag(cosines).mean(), rtol=1e-9)


def test_without_texts_nothing_is_compared(run):
    found = read_mappings(run[0], ["Far"])
    assert likeness(found.target, found.sources[0]) == [] and found.target.texts is None


def test_with_text_alignment_both_sides_vectors_hold_their_texts(tmp_path):
    shop = write_shop(tmp_path)
    for name, items in (("Target", 24), ("Near", 28)):
        write_items(shop, name, {item: f"word{item % 5} other{item % 3} thing" for item in range(items)})
    keys = {**TINY, "epochs": 1, "vq_heads": HEADS, "sources": ["Near"], "data_path": str(shop), "text_alignment": True}
    keys |= {"state": "ERROR", "device": "cpu", "show_progress": False, "transfer_guard": False, "text_width": 16}
    folder = run_experiment("MetaRec", "Target", overrides=keys).run_dir
    (mapping,) = read_mappings(folder).sources
    # the deployed table is the sum already, and the only epoch is the best
    target = read_checkpoint(folder / "model.pth")["state_dict"]["item_embedding.weight"]
    state = read_checkpoint(folder / "model-last.pth")
    texts = [["", *own.texts] for own in (read_mappings(folder).target, mapping.source)]
    vectors = encode_domains(texts[0], texts[1:], TextSpace("tfidf", 16), 0.2).sources[0]
    added = torch.from_numpy(vectors) @ state["state_dict"]["text_map.weight"]
    source = state["source_sides"]["sides"]["Near"]["table"] + added
    np.testing.assert_array_equal(mapping.codes, nearest_codes(source[1:], target, HEADS) - 1)


def test_an_interval_of_items_that_occur_once_is_students_and_repeated_items_widen_it():
    random = np.random.default_rng(0)
    values, items = random.normal(1, 2, 60), np.arange(60)
    once, plain = paired_interval(values, items, random.permutation(60)), mean_interval(values)
    np.testing.assert_allclose((once.mean, once.low, once.high), (plain.mean, plain.low, plain.high))
    # the same values four times over tell no more than once
    again = paired_interval(np.repeat(values, 4), np.repeat(items, 4), np.arange(240))
    np.testing.assert_allclose((again.low, again.high), (plain.low, plain.high))
    other = paired_interval(np.repeat(values, 4), np.arange(240), np.repeat(items, 4))
    np.testing.assert_allclose((other.low, other.high), (again.low, again.high))
    assert np.isinf(paired_interval(values, items, np.zeros(60, dtype=int)).low)


def test_an_interval_is_by_all_pairs_of_values_that_share_an_item():
    larger = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        first, second = random.integers(0, 7, 40), random.integers(0, 5, 40)  # some pairs occur twice
        values = random.normal(size=7)[first] + random.normal(size=5)[second] + random.normal(size=40)
        apart = values - values.mean()
        same = {"first": first[:, None] == first, "second": second[:, None] == second}
        same["both"] = same["first"] & same["second"]
        counts = {"first": 7, "second": 5, "both": len(set(zip(first, second)))}
        terms = {name: apart @ same[name] @ apart / 40**2 * counts[name] / (counts[name] - 1) for name in same}
        two_way = terms["first"] + terms["second"] - terms["both"]
        larger += two_way > max(terms["first"], terms["second"])
        half = np.sqrt(max(terms["first"], terms["second"], two_way)) * stats.t.ppf(0.975, 4)
        found = paired_interval(values, first, second)
        np.testing.assert_allclose((found.mean, found.high - found.mean), (values.mean(), half))
    assert larger > 1


def test_an_interval_covers_the_mean_of_values_that_both_sides_items_decide():
    covered = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        first, second = random.integers(0, 40, 300), random.integers(0, 25, 300)
        values = random.normal(size=40)[first] + random.normal(size=25)[second] + random.normal(size=300)
        covered += paired_interval(values, first, second).holds_zero
    assert covered >= 180, "95 % of 200, less 3 standard errors"


def test_the_command_shows_popular_items_their_slices_and_how_alike_texts_are(run, texts, capsys):
    texts()
    assert cli.main(["neighbours", str(run[0]), "--sources", "Near", "--top", "2"]) == 0
    out = capsys.readouterr().out
    found = read_mappings(run[0], ["Near"], k=2)
    popular = np.argsort(-found.sources[0].source.events, kind="stable")[:2]
    for number in popular:
        assert f"Near: {found.sources[0].source.names[number]} " in out
    code = found.target.names[run[1][popular[0], 1]]
    assert f"  slice 2: {code} word" in out and "alike" in out and out.count("  nearest 2: ") == 2
    name = found.sources[0].source.names[-1]
    assert cli.main(["neighbours", str(run[0]), "--sources", "Near", "--items", name]) == 0
    assert f"Near: {name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Missing argument 'RUN'; see recbole-metarec neighbours --help"),
        (["nowhere"], "nowhere: no such folder; "),
        (["RUN", "--sources", "Elsewhere"], "--sources: Elsewhere was no source of this run; choose from Near, Far"),
        (["RUN", "--items", "Near-999"], "--items: Near-999 is an item of none of these sources; "),
        (["RUN", "--top", "0"], "--top: 0 "),
        (["RUN", "--vq_heads=2"], "--vq_heads: not an option of recbole-metarec neighbours; "),
        (["RUN", "--data_path", "empty"], "domain Target is not known"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(run, argv, message, capsys, tmp_path, empty_cache):
    (tmp_path / "empty").mkdir()
    assert cli.main(["neighbours", *(str(run[0]) if word == "RUN" else word for word in argv)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1


def test_folders_that_hold_no_run_with_sources_are_said(tmp_path, capsys, run):
    (tmp_path / "some").mkdir()
    assert cli.main(["neighbours", "some"]) == 2
    assert "some: no model.pth in it; " in capsys.readouterr().err
    for name in ("model.pth", "model-last.pth"):
        state = read_checkpoint(run[0] / name)
        state.pop("format")
        state.pop("source_sides", None)
        write_checkpoint(tmp_path / "some" / name, state)
    assert cli.main(["neighbours", "some"]) == 2
    assert "model-last.pth: no source in it; " in capsys.readouterr().err


def test_a_source_that_has_changed_since_is_said(run, shop, capsys):
    file = shop / "Far" / "Far.inter"
    before = file.read_text()
    file.write_text(before + "Far-u0\tFar-new\t99\n")
    try:
        assert cli.main(["neighbours", str(run[0])]) == 2
        assert "Far: " in capsys.readouterr().err
    finally:
        file.write_text(before)
