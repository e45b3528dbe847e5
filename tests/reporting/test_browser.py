"""The page in a real browser: nothing overlaps or overflows, and what its script does."""

import csv
import io
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.browser import OVERFLOWS, OVERLAPS, Browser, browser, missing
from support.made_reports import HOSPITALS, made_report
from support.sample_runs import HOSTILE
from support.thorough import sample

from fedcli.reporting.page import to_html
from fedcli.reporting.report import Report

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "can be opened")

PAGES: dict[str, Callable[[], Report]] = {
    "1 run": made_report,
    "4 runs": lambda: made_report(4, rounds=20),
    "18 runs": lambda: made_report(18, rounds=50, alphas=2, seeds=3),
    "40 runs": lambda: made_report(40, rounds=50),
    "5 hospitals": lambda: made_report(clients=HOSPITALS, classes=2),
    "1,000 clients": lambda: made_report(clients=1000, rounds=5),
    "100 classes": lambda: made_report(classes=100, clients=50),
    "1 round": lambda: made_report(2, rounds=1, clients=("0",)),
}
VIEWS = [(name, width, dark) for name in PAGES for width, dark in ((1400, False), (420, True))] + [
    (name, width, dark) for name in PAGES for width, dark in ((1400, True), (420, False))
]
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("pages")

    def page(name: str) -> Path:
        path = root / f"{name}.html"
        if not path.exists():
            path.write_text(to_html(PAGES[name]()), encoding="utf-8")
        return path

    return page


@pytest.mark.parametrize(
    ("name", "width", "dark"), sample(VIEWS, 8, kind=lambda view: view[0], seed="views")
)
def test_no_text_is_covered_or_cut_off(
    tab: Browser, pages: Callable[[str], Path], name: str, width: int, dark: bool
) -> None:
    tab.open(pages(name), width, dark=dark)
    tab.run(OPEN_ALL)
    assert tab.run(OVERLAPS) == []
    assert tab.run(OVERFLOWS) == []
    assert tab.complaints() == []
    background = tab.run("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("name", PAGES)
def test_every_curve_has_a_label_of_its_own_look(
    tab: Browser, pages: Callable[[str], Path], name: str
) -> None:
    tab.open(pages(name))
    curves = tab.run(
        "return [...document.querySelectorAll('figure')].map((figure) => ["
        "[...figure.querySelectorAll('.curve')].map((one) => one.dataset.series),"
        "[...figure.querySelectorAll('.entry')].map((one) => [one.dataset.series,"
        " one.querySelector('.line')?.getAttribute('class') +"
        " one.querySelector('.mark')?.getAttribute('d').replace(/^M[^m]*/, ''),"
        " one.textContent])])"
    )
    assert any(drawn for drawn, _ in curves)
    for drawn, entries in curves:
        assert set(drawn) <= {series for series, _, _ in entries}
        assert len({look for _, look, _ in entries}) == len(entries)
        assert len({text for _, _, text in entries}) == len(entries)


@pytest.mark.parametrize("name", sample(list(PAGES), 3, seed="print"))
def test_a_print_shows_folded_sections_on_white(
    tab: Browser, pages: Callable[[str], Path], name: str
) -> None:
    tab.open(pages(name), dark=True)
    folded = "return document.querySelectorAll('details:not([open])').length"
    before = tab.run(folded)
    tab.run(
        "addEventListener('beforeprint', () => {"
        " window.folded = document.querySelectorAll('details:not([open])').length;"
        " window.paper = getComputedStyle(document.body).backgroundColor; })"
    )
    assert tab.pdf().startswith(b"%PDF")
    assert tab.run("return window.folded") == 0
    assert tab.run(folded) == before


@pytest.mark.parametrize("name", ["5 hospitals", "18 runs", "40 runs"])
def test_every_table_fits_on_paper(tab: Browser, pages: Callable[[str], Path], name: str) -> None:
    tab.open(pages(name))
    tab.run(OPEN_ALL)
    tab.show_as_printed()
    assert tab.run(OVERLAPS) == []
    too_wide = tab.run(
        "return [...document.querySelectorAll('table')]"
        ".filter((one) => one.getBoundingClientRect().right > innerWidth + 1)"
        ".map((one) => one.parentNode.ariaLabel + ' ' + one.getBoundingClientRect().right)"
    )
    assert too_wide == []
    assert tab.run("return getComputedStyle(document.querySelector('.tools')).display") == "none"


class TestHover:
    def test_shows_the_values_of_all_curves_of_a_round(
        self, tab: Browser, pages: Callable[[str], Path]
    ) -> None:
        tab.open(pages("4 runs"))
        shown = tab.point_at("accuracy", 0.985, 0.3).splitlines()
        report = PAGES["4 runs"]()
        assert shown[0] == "round 20"
        found = dict(zip(shown[1::2], map(float, shown[2::2]), strict=True))
        assert found == {
            row.label: pytest.approx(100 * (row.accuracy or 0), rel=1e-3) for row in report.summary
        }
        assert list(found.values()) == sorted(found.values(), reverse=True)

    def test_shows_bands_of_methods(self, tab: Browser, pages: Callable[[str], Path]) -> None:
        tab.open(pages("18 runs"))
        shown = tab.point_at("accuracy", 0.5, 0.3)
        assert len(re.findall(r"\d \([\d.]+ to [\d.]+\)", shown)) == 6

    def test_stays_on_a_narrow_screen(self, tab: Browser, pages: Callable[[str], Path]) -> None:
        tab.open(pages("40 runs"), 420)
        assert tab.point_at("accuracy", 0.9, 0.2)
        box = tab.run(
            "const b = document.getElementById('tip').getBoundingClientRect();"
            "return [b.left, b.top, innerWidth - b.right, innerHeight - b.bottom]"
        )
        assert min(box) >= 0

    @pytest.mark.parametrize(
        ("name", "figure", "height", "expected"),
        [
            ("5 hospitals", "run-1-labels", 0.3, r"client .*\nclass benign\n\d+"),
            ("5 hospitals", "run-1-confusion", 0.3, r"true class .*\npredicted class .*\n.* %\)"),
            (
                "5 hospitals",
                "run-1-clients",
                0.1,
                r"client St. Mary's Hospital, London\n.*\n[\d.]+",
            ),
            ("1,000 clients", "run-1-clients", 0.1, r".* to .*\nclients\n\d+"),
        ],
    )
    def test_shows_the_value_of_a_cell_or_bar(
        self,
        tab: Browser,
        pages: Callable[[str], Path],
        name: str,
        figure: str,
        height: float,
        expected: str,
    ) -> None:
        tab.open(pages(name))
        shown = tab.point_at(figure, 0.31, height)
        assert re.fullmatch(expected, shown), shown

    def test_is_there_for_the_keyboard(self, tab: Browser, pages: Callable[[str], Path]) -> None:
        tab.open(pages("1 run"))
        tab.run(
            "const svg = document.querySelector('#accuracy svg'); svg.focus();"
            "for (let i = 0; i < 3; i++)"
            " svg.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
        )
        assert tab.run("return document.getElementById('tip').innerText").startswith("round 2\n")


def test_a_table_sorts_by_its_heads(tab: Browser, pages: Callable[[str], Path]) -> None:
    tab.open(pages("4 runs"))
    column = (
        "const table = document.querySelector('.summary');"
        "const heads = [...table.tHead.rows[0].cells];"
        "const head = heads.find((one) => one.textContent === arguments[0]);"
        "head.querySelector('button').click();"
        "return [head.getAttribute('aria-sort'),"
        " [...table.tBodies[0].rows].map((row) => row.cells[head.cellIndex].textContent)]"
    )
    for way in ("descending", "ascending"):
        sorted_as, cells = tab.run(column, "accuracy (%)")
        assert sorted_as == way
        assert cells == sorted(cells, key=float, reverse=way == "descending")
    sorted_as, cells = tab.run(column, "method")
    assert (sorted_as, cells) == ("ascending", sorted(cells))
    assert tab.run("return document.querySelectorAll('.summary [aria-sort]').length") == 1


def test_figures_and_tables_can_be_saved(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(to_html(made_report(2, labels=("=1+1", 'b, "c"'))), encoding="utf-8")
    tab.save_to(tmp_path)
    tab.open(page)
    own = "#accuracy .tools button"
    for button in (own, f"{own} + button", ".scroll + .tools button"):
        tab.run("document.querySelector(arguments[0]).click()", button)
    picture = _saved(tmp_path / "accuracy.svg").decode()
    assert "var(" not in picture
    assert 'xmlns="http://www.w3.org/2000/svg"' in picture
    assert _saved(tmp_path / "accuracy.png").startswith(b"\x89PNG")
    table = list(csv.reader(io.StringIO(_saved(tmp_path / "summary.csv").decode())))
    assert [row[0] for row in table[1:]] == ["'=1+1", 'b, "c"']
    assert tab.complaints() == []


def _saved(path: Path) -> bytes:
    for _ in range(100):
        if path.exists() and path.stat().st_size:
            return path.read_bytes()
        time.sleep(0.05)
    raise AssertionError(f"{path.name} was not saved")


def test_a_link_of_the_contents_opens_what_is_folded(
    tab: Browser, pages: Callable[[str], Path]
) -> None:
    tab.open(pages("40 runs"))
    tab.run("document.querySelector('nav a[href=\"#run-7\"]').click()")
    wait = "return [document.getElementById('run-7').open, location.hash]"
    for _ in range(50):
        if tab.run(wait)[0]:
            break
        time.sleep(0.02)
    assert tab.run(wait) == [True, "#run-7"]


def test_names_are_text_whatever_they_hold(tab: Browser, tmp_path: Path) -> None:
    act = "document.title='owned'"
    evil = f'</script><script>{act}</script><img src=x onerror="{act}">'
    report = made_report(2, clients=HOSTILE, labels=[f"{evil}{i}" for i in range(2)])
    page = tmp_path / "page.html"
    page.write_text(to_html(report), encoding="utf-8")
    tab.open(page)
    tab.run(OPEN_ALL)
    assert tab.run("return document.title").startswith("fedcli report: </script>")
    assert tab.run("return document.querySelectorAll('img').length") == 0
    assert evil in tab.point_at("accuracy", 0.5, 0.3)
    assert tab.run("return document.querySelectorAll('#tip script').length") == 0
    assert tab.complaints() == []
