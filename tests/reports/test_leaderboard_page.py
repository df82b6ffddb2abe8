"""The page in a real headless Chromium: it sorts, fits a phone, asks nobody for anything, and names stay names."""

import math
import re
import shutil

import pytest
from support.browser import Browser, find_browser
from support.made_up import made_up_comparison, made_up_run

import recbole_metarec  # noqa: F401

# isort: split
from recbole_metarec.compare.leaderboard import compare
from recbole_metarec.evaluation.intervals import Interval
from recbole_metarec.evaluation.results import FailedRun
from recbole_metarec.reports import charts
from recbole_metarec.reports.html import page

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"
FIRST_COLUMN = "[...document.querySelectorAll('#models tbody tr')].map(row => row.cells[0].dataset.value)"
COLUMN = "[...document.querySelectorAll('#models tbody tr')].map(row => row.cells[{}].dataset.value)"
SORTED = "[...document.querySelectorAll('#models thead th')].map(head => head.getAttribute('aria-sort'))"
CLICK = "document.querySelectorAll('#models thead button')[{}].click()"


@pytest.fixture(scope="module")
def comparison():
    return made_up_comparison({"BERT4Rec": HOSTILE}, users=400)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find_browser() is None:
        pytest.skip("needs Chromium or Chrome on PATH (apt-get install chromium)")
    folder = tmp_path_factory.mktemp("profile")
    with Browser(folder) as found:
        yield found
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def opened(browser, comparison, tmp_path):
    """Opens the page, at a width and in a colour scheme; the browser forgets what it was told before."""
    file = tmp_path / "leaderboard.html"

    def open_page(shown=comparison, **screen) -> Browser:
        file.write_text(page(shown), encoding="utf-8")
        browser.events.clear()
        browser.open(file.as_uri(), **screen)
        return browser

    return open_page


def test_text_of_others_is_escaped(comparison):
    text = page(comparison)
    assert text.count("<script>") == text.count("</script>") == 1
    assert "<img" not in text and "&lt;script&gt;" in text


def test_the_page_names_no_address(comparison):
    text = page(comparison)
    assert not re.findall(r"https?:|//[a-z]|@import|url\(", text)
    assert [
        match for match in re.findall(r'(?:src|href)="([^"]*)"', text) if not match.startswith(("data:", "#"))
    ] == []


def test_it_asks_nobody_and_complains_of_nothing(opened, comparison):
    browser = opened()
    browser.run(CLICK.format(2))
    assert [address for address in browser.requests if not address.startswith(("file:", "data:"))] == []
    assert len([address for address in browser.requests if address.startswith("file:")]) == 1
    assert browser.complaints == []
    assert browser.run("document.title") == f"Leaderboard: {comparison.protocol.dataset}"
    assert HOSTILE in browser.run(FIRST_COLUMN)


def test_what_a_name_smuggles_in_does_not_run(opened, comparison, tmp_path):
    """The policy holds even where the escaping would not: inline scripts and pictures of other hosts are refused."""
    browser = opened()
    smuggled = "<img src='http://example.invalid/x.png'><svg onload='document.title=1'></svg>"
    (tmp_path / "leaderboard.html").write_text(page(comparison).replace("<footer>", f"{smuggled}<footer>"))
    browser.events.clear()
    browser.open((tmp_path / "leaderboard.html").as_uri())
    assert browser.run("document.title").startswith("Leaderboard")
    assert any("Content Security Policy" in str(complaint) for complaint in browser.complaints)


def test_it_sorts_by_every_column_both_ways(opened, comparison):
    browser = opened()
    columns = len(browser.run(SORTED))
    assert browser.run(SORTED)[2] == "descending"
    for column in range(1, columns):
        for order in ("descending", "ascending"):
            browser.run(CLICK.format(column))
            assert browser.run(SORTED) == [order if k == column else None for k in range(columns)]
            values = browser.run(COLUMN.format(column))
            found = [float(value) for value in values if value is not None]
            assert found == sorted(found, reverse=order == "descending")
            assert values[: len(found)].count(None) == 0  # what was not measured is last
            assert sorted(browser.run(FIRST_COLUMN)) == sorted(entry.model for entry in comparison.entries)
    browser.run(CLICK.format(0))
    names = browser.run(FIRST_COLUMN)
    assert browser.run(SORTED)[0] == "ascending"
    assert names == [HOSTILE, *sorted((name for name in names if name != HOSTILE), key=str.lower)]


def test_rows_move_as_a_whole(opened, comparison):
    browser = opened()
    browser.run(CLICK.format(6))
    rows = browser.run(
        "[...document.querySelectorAll('#models tbody tr')].map(row => [...row.cells].map(cell => cell.dataset.value))"
    )
    by_name = {entry.model: entry for entry in comparison.entries}
    for row in rows:
        entry = by_name[row[0]]
        assert int(row[1]) == entry.tier and float(row[2]) == entry.test["ndcg@10"].mean
        assert float(row[6]) == entry.seconds


def test_the_keyboard_sorts_and_copies(opened):
    browser = opened()
    browser.run("document.querySelectorAll('#models thead button')[0].focus()")
    browser.press("Enter", 13, "\r")
    assert browser.run(SORTED)[0] == "ascending"
    assert "Sorted by Model, ascending" in browser.run("document.getElementById('said').textContent")
    browser.run("document.querySelector('summary').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.run("document.querySelector('details').open")
    browser.run("document.querySelector('.copy').focus()")
    browser.press(" ", 32, " ")
    said = browser.run("new Promise(done => setTimeout(() => done(document.getElementById('said').textContent), 300))")
    assert said in ("The command is copied", "The command is selected")


def test_every_command_is_on_the_page(opened, comparison):
    shown = opened().run("[...document.querySelectorAll('code')].map(code => code.textContent)")
    expected = [run.command for entry in comparison.entries for run in entry.runs]
    assert shown == expected + [run.command for run in comparison.failed]


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_body_never_scrolls_sideways(opened, width, dark):
    browser = opened(width=width, height=800, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.run("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [width, width]
    beyond = """[...document.querySelectorAll('main *')].filter(element => !element.closest('.scroll')
        && element.getBoundingClientRect().right > innerWidth + 0.5).map(element => element.outerHTML.slice(0, 90))"""
    assert browser.run(beyond) == []


def test_every_column_of_a_wide_table_can_be_reached_on_a_phone(opened):
    """The table moves under its own first column, which stays."""
    browser = opened(width=390)
    browser.run("document.querySelector('.scroll').scrollLeft = 99999")
    ends = browser.run("""[...document.querySelector('#models tbody tr').cells].map(cell => {
        const box = cell.getBoundingClientRect(); return [box.left, box.right]; })""")
    assert 0 <= ends[0][0] < ends[0][1] <= ends[-1][0] and ends[-1][1] <= 390


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_marks_stand_out_from_what_is_behind(opened, dark):
    """WCAG 2.1: 4.5 : 1 for text, 3 : 1 for marks."""
    browser = opened(dark=dark)
    colours = browser.run("""(() => {
        const probe = document.body.appendChild(document.createElement('i'));
        const names = ['ink', 'soft', 'transfer', 'baseline', 'warn', 'page', 'card', 'tint'];
        const found = Object.fromEntries(names.map(name => {
            probe.style.setProperty('color', `var(--${name})`);
            return [name, getComputedStyle(probe).color.match(/[0-9.]+/g).map(Number)];
        }));
        probe.remove();
        return found; })()""")

    def light(name):
        parts = [value / 255 for value in colours[name][:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one, two):
        low, high = sorted((light(one), light(two)))
        return (high + 0.05) / (low + 0.05)

    assert (light("page") < 0.1) == dark
    for behind in ("page", "card", "tint"):
        assert min(contrast("ink", behind), contrast("soft", behind)) >= 4.5
        assert min(contrast(mark, behind) for mark in ("transfer", "baseline", "warn")) >= 3


def test_it_can_be_read_without_seeing_it(opened):
    browser = opened()
    for expression in (
        "document.documentElement.lang === 'en' && document.querySelectorAll('h1').length === 1",
        "[...document.querySelectorAll('table')].every(table => table.caption && table.tHead)",
        "[...document.querySelectorAll('thead th')].every(head => head.scope === 'col')",
        "[...document.querySelectorAll('tbody tr')].every(row => row.cells[0].scope === 'row')",
        "[...document.querySelectorAll('button')].every(button => button.textContent.trim())",
        "[...document.querySelectorAll('main > section')].every(one => document.getElementById("
        "one.getAttribute('aria-labelledby')))",
        "[...document.querySelectorAll('svg')].every(svg => svg.closest('[aria-hidden], [role=img]'))",
        "new Set([...document.querySelectorAll('[id]')].map(one => one.id)).size"
        " === document.querySelectorAll('[id]').length",
    ):
        assert browser.run(expression) is True, expression


def test_labels_of_the_scatter_lie_on_nothing_on_a_phone(opened):
    browser = opened(made_up_comparison(users=400), width=390)
    boxes = browser.run("""[...document.querySelectorAll('.scatter .label, .scatter .mark')].map(one => {
        const box = one.getBoundingClientRect();
        return [box.left, box.right, box.top + 3, box.bottom - 3]; })""")
    assert len(boxes) == 16
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            beside = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
            assert beside, (one, other)


def test_the_forest_draws_the_differences(opened, comparison):
    """Left of the zero line is worse: places are read from the screen and turned back into differences."""
    browser = opened(width=1280)
    rows = browser.run("""[...document.querySelectorAll('.forest li:not(.axis)')].map(row => {
        const middle = one => { const box = one.getBoundingClientRect(); return (box.left + box.right) / 2; };
        const mark = row.querySelector('.plot .mark'), reach = row.querySelector('.reach');
        if (!mark) return null;
        const box = reach.getBoundingClientRect();
        return [middle(row.querySelector('.zero')), box.left, middle(mark), box.right]; })""")
    scales = []
    for row, entry in zip(rows, comparison.entries):
        assert (row is None) == (entry.difference is None)
        if row:
            zero, found = row[0], entry.difference.interval
            scales += [(place - zero, value) for place, value in zip(row[1:], (found.low, found.mean, found.high))]
    per_pixel = sum(p * v for p, v in scales) / sum(p * p for p, _ in scales)
    assert per_pixel > 0
    for pixels, value in scales:
        assert abs(pixels * per_pixel - value) < 4 * per_pixel


@pytest.mark.parametrize("shown", ["nothing", "alone", "one seed"])
def test_small_comparisons_have_a_page_too(opened, shown):
    protocol = made_up_comparison(users=30, seeds=1).protocol
    small = {
        "nothing": lambda: compare([], protocol, (), [FailedRun("SASRec", 1, "out of memory", "train")]),
        "alone": lambda: compare([made_up_run("Pop", 1, 30)], protocol, ("Pop",)),
        "one seed": lambda: made_up_comparison(users=30, seeds=1),
    }[shown]()
    browser = opened(small, width=390)
    assert browser.complaints == []
    assert browser.run("document.documentElement.scrollWidth") == 390


def test_axes_hold_their_values():
    axis = charts.linear_axis([0.013, 0.047])
    assert axis.low <= 0.013 and axis.high >= 0.047 and axis.at(axis.low) == 0 and axis.at(axis.high) == 100
    assert charts.bar(Interval(0.0, -9.0, 9.0), charts.Axis(-1, 1)) == charts.Bar(0.0, 50.0, 100.0)
    assert charts.bar(Interval(0.5, -math.inf, math.inf), charts.Axis(0, 1)) == charts.Bar(50.0, 50.0, 50.0)
    time = charts.time_axis([7, 700])
    assert (time.low, time.high) == (1, 3600)
    assert time.at(60) == pytest.approx(50, abs=0.1)  # 60 is the root of 3600
    assert charts.time_axis([0.01, 0.02]).high > charts.time_axis([0.01, 0.02]).low
    assert charts.time_axis([10.0]).at(10.0) == 0
    assert len(charts.linear_axis([0.5, 0.5]).ticks) >= 3


def test_epochs_without_a_validation_are_left_out():
    run = made_up_run("SASRec", 1, 30)
    history = [{"epoch": -1, "train_loss": 1.0}, {"epoch": 0, "valid_score": 0.1}, {"epoch": 1, "train_loss": 1.0},
               {"epoch": 2, "valid_score": 0.3}, {"epoch": 3, "valid_score": float("nan")}]  # fmt: skip
    run = type(run)(**{**vars(run), "history": history})
    found = charts.curves(compare([run], made_up_comparison(users=30, seeds=1).protocol, ()))
    low, high = (found.scores.at(score) for score in (0.1, 0.3))
    assert found.panels[0].curves == (f"0,{100 - low:g} 100,{100 - high:g}",)
    assert found.panels[0].best == ((100.0, 100 - high),)
