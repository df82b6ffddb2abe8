"""The page in a real headless Chromium: it sorts, fits a phone, asks nobody for anything, and names stay names."""

import re
import shutil
import subprocess

import pytest
from support.made_up import made_up_comparisons, made_up_run

import recbole_metarec  # noqa: F401

# isort: split
from recbole_metarec.compare.leaderboard import compare_both
from recbole_metarec.evaluation.results import FailedRun
from recbole_metarec.reports.html import page
from recbole_metarec.reports.leaderboard import headline, models_tables, segments_tables

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
)
NAMES = "[...document.querySelectorAll('#models-kept tbody tr')].map(row => row.cells[0].dataset.value)"
COLUMN = "[...document.querySelectorAll('#models-kept tbody tr')].map(row => row.cells[{}].dataset.value)"
SORTED = "[...document.querySelectorAll('#models-kept thead th')].map(head => head.getAttribute('aria-sort'))"
CLICK = "document.querySelectorAll('#models-kept thead button')[{}].click()"


def text_of(comparisons) -> str:
    return page(comparisons, headline(comparisons), models_tables(comparisons), segments_tables(comparisons))


@pytest.fixture(scope="module")
def comparisons():
    return made_up_comparisons({"BERT4Rec": HOSTILE}, users=400)


@pytest.fixture(scope="module")
def comparison(comparisons):
    return comparisons[0]


@pytest.fixture(scope="module")
def text(comparisons):
    return text_of(comparisons)


def starts(program: str) -> bool:
    """Not so of a script in the browser's place that only says how to get it."""
    return subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def chromium():
    library = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    program = next((found for found in map(shutil.which, PROGRAMS) if found and starts(found)), None)
    if program is None:
        pytest.skip("needs Chromium or Chrome on PATH (apt-get install chromium)")
    with library.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, text, tmp_path):
    """Opens the page in a new window that notes what it asks for and complains of."""
    contexts = []

    def open_page(shown=text, width=1280, dark=False):
        (tmp_path / "leaderboard.html").write_text(shown, encoding="utf-8")
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", is_mobile=width < 600
        )
        contexts.append(context)
        window = context.new_page()
        window.asked, window.complaints = [], []
        window.on("request", lambda request: window.asked.append(request.url))
        window.on("console", lambda message: window.complaints.append(message.text))
        window.on("pageerror", lambda error: window.complaints.append(str(error)))
        window.goto((tmp_path / "leaderboard.html").as_uri())
        return window

    yield open_page
    for context in contexts:
        context.close()


def test_text_of_others_is_escaped(text):
    assert text.count("<script>") == text.count("</script>") == 1
    assert "<img src=x" not in text and "&lt;script&gt;" in text


def test_the_page_names_no_address(text):
    assert not re.findall(r"https?:|//[a-z]|@import|url\(", text)
    named = re.findall(r'(?:src|srcset|href)="([^"]*)"', text)
    assert named and all(address.startswith("data:") for address in named)


def test_it_asks_nobody_and_complains_of_nothing(opened, comparison):
    window = opened()
    window.evaluate(CLICK.format(2))
    assert [address for address in window.asked if not address.startswith(("file:", "data:"))] == []
    assert len([address for address in window.asked if address.startswith("file:")]) == 1
    assert window.complaints == []
    assert window.title() == f"Leaderboard: {comparison.protocol.dataset}"
    assert HOSTILE in window.evaluate(NAMES)


def test_what_a_name_smuggles_in_does_not_run(opened, text):
    """The policy holds even where the escaping would not: inline scripts and pictures of other hosts are refused."""
    smuggled = "<img src='http://example.invalid/x.png'><svg onload='document.title=1'></svg>"
    window = opened(text.replace("<footer>", f"{smuggled}<footer>"))
    assert window.title().startswith("Leaderboard")
    assert any("Content Security Policy" in complaint for complaint in window.complaints)


def test_it_sorts_by_every_column_both_ways(opened, comparison):
    window = opened()
    names = [entry.model for entry in comparison.entries]
    heads = window.evaluate("[...document.querySelectorAll('#models-kept thead th')].map(head => head.className)")
    assert window.evaluate(SORTED)[1] == "ascending" and window.evaluate(NAMES) == names
    for column, kind in enumerate(heads):
        first, other = ("ascending", "descending") if kind == "text" else ("descending", "ascending")
        for order in (first, other):
            window.evaluate(CLICK.format(column))
            assert window.evaluate(SORTED) == [order if k == column else None for k in range(len(heads))]
            values = window.evaluate(COLUMN.format(column))
            known = [value.lower() if kind == "text" else float(value) for value in values if value is not None]
            assert known == sorted(known, reverse=order == "descending")
            assert values[: len(known)].count(None) == 0  # what was not measured is last
            assert sorted(window.evaluate(NAMES)) == sorted(names)


def test_rows_move_as_a_whole(opened, comparison):
    window = opened()
    heads = window.evaluate("[...document.querySelectorAll('#models-kept .head')].map(head => head.textContent)")
    tier, level, time = (heads.index(name) for name in ("Tier", "NDCG@10", "Time"))
    window.evaluate(CLICK.format(time))
    rows = window.evaluate(
        "[...document.querySelectorAll('#models-kept tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.dataset.value))"
    )
    by_name = {entry.model: entry for entry in comparison.entries}
    for row in rows:
        entry = by_name[row[0]]
        assert int(row[tier]) == entry.tier and float(row[level]) == entry.test["ndcg@10"].mean
        assert float(row[time]) == entry.seconds


def test_the_keyboard_sorts_and_copies(opened):
    window = opened()
    window.evaluate("document.querySelectorAll('#models-kept thead button')[0].focus()")
    window.keyboard.press("Enter")
    assert window.evaluate(SORTED)[0] == "ascending"
    assert "Sorted by Model, ascending" in window.evaluate("document.getElementById('said').textContent")
    window.evaluate("document.querySelector('summary').focus()")
    window.keyboard.press("Enter")
    assert window.evaluate("document.querySelector('details').open")
    window.evaluate("document.querySelector('.copy').focus()")
    window.keyboard.press(" ")
    said = window.evaluate(
        "new Promise(done => setTimeout(() => done(document.getElementById('said').textContent), 300))"
    )
    assert said in ("The command is copied", "The command is selected")


def test_every_command_is_on_the_page(opened, comparison):
    shown = opened().evaluate("[...document.querySelectorAll('code')].map(code => code.textContent)")
    expected = [run.command for entry in comparison.entries for run in entry.runs]
    assert shown == expected + [run.command for run in comparison.failed]


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_body_never_scrolls_sideways(opened, width, dark):
    window = opened(width=width, dark=dark)
    window.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert window.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [width, width]
    beyond = """[...document.querySelectorAll('main *')].filter(element => !element.closest('.scroll')
        && element.getBoundingClientRect().right > innerWidth + 0.5).map(element => element.outerHTML.slice(0, 90))"""
    assert window.evaluate(beyond) == []


def test_every_column_of_a_wide_table_can_be_reached_on_a_phone(opened):
    """The table moves under its own first column, which stays."""
    window = opened(width=390)
    window.evaluate("document.querySelector('.scroll').scrollLeft = 99999")
    ends = window.evaluate("""[...document.querySelector('#models-kept tbody tr').cells].map(cell => {
        const box = cell.getBoundingClientRect(); return [box.left, box.right]; })""")
    assert 0 <= ends[0][0] < ends[0][1] <= ends[-1][0] and ends[-1][1] <= 390


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_marks_stand_out_from_what_is_behind(opened, dark):
    """WCAG 2.1: 4.5 : 1 for text, 3 : 1 for marks."""
    window = opened(dark=dark)
    colours = window.evaluate("""(() => {
        const probe = document.body.appendChild(document.createElement('i'));
        const names = ['ink', 'soft', 'compared', 'baseline', 'warn', 'page', 'card', 'tint'];
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
        assert min(contrast(mark, behind) for mark in ("compared", "baseline", "warn")) >= 3


def test_it_can_be_read_without_seeing_it(opened):
    window = opened()
    for expression in (
        "document.documentElement.lang === 'en' && document.querySelectorAll('h1').length === 1",
        "[...document.querySelectorAll('table')].every(table => table.caption && table.tHead)",
        "[...document.querySelectorAll('thead th')].every(head => head.scope === 'col')",
        "[...document.querySelectorAll('tbody tr')].every(row => row.cells[0].scope === 'row')",
        "[...document.querySelectorAll('button')].every(button => button.textContent.trim())",
        "[...document.querySelectorAll('main > section')].every(one => document.getElementById("
        "one.getAttribute('aria-labelledby')))",
        "[...document.querySelectorAll('svg')].every(svg => svg.closest('[aria-hidden]'))",
        "[...document.images].every(image => image.alt)",
        "new Set([...document.querySelectorAll('[id]')].map(one => one.id)).size"
        " === document.querySelectorAll('[id]').length",
    ):
        assert window.evaluate(expression) is True, expression


@pytest.mark.parametrize("width", [390, 1280])
def test_every_figure_is_drawn_for_the_screen_it_is_on(opened, width):
    images = opened(width=width).evaluate("""[...document.images].map(image =>
        [image.complete, image.naturalWidth, image.getBoundingClientRect().width])""")
    assert len(images) == 6
    for complete, drawn, shown in images:
        assert complete and 0.7 < shown / drawn <= 1.6, "its letters are about as large as they were drawn"


@pytest.mark.parametrize("shown", ["nothing", "alone", "one seed"])
def test_small_comparisons_have_a_page_too(opened, shown):
    protocol = made_up_comparisons(users=30, seeds=1)[0].protocol
    small = {
        "nothing": lambda: compare_both([], protocol, (), [FailedRun("SASRec", 1, "out of memory", "train")]),
        "alone": lambda: compare_both([made_up_run("Pop", 1, 30)], protocol, ("Pop",)),
        "one seed": lambda: made_up_comparisons(users=30, seeds=1),
    }[shown]()
    window = opened(text_of(small), width=390)
    assert window.complaints == []
    assert window.evaluate("document.documentElement.scrollWidth") == 390
