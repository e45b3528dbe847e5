"""The documentation site: built without a network, whole, and searchable from a folder of files."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from support import browser
from support.pages import PAGES, ROOT

import fedcli

DOCS = ROOT / "docs"
START = "README.html"
MISSING = [name for name in ("sphinx", "myst_parser", "furo", "bs4") if find_spec(name) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

# Sphinx in a process whose sockets lead nowhere
OFFLINE = """
import socket, sys
def refuse(*address, **options):
    raise AssertionError(f"the build asked the network: {address}")
socket.getaddrinfo = socket.socket.connect = refuse
from sphinx.cmd.build import main
sys.exit(main(sys.argv[1:]))
"""


def build(docs: Path, site: Path) -> str:
    """Build a site in a new process; the warnings, each of which is an error."""
    cache_of_pages = site.with_suffix(".doctrees")
    words = ["-q", "--fail-on-warning", "-d", str(cache_of_pages), str(docs), str(site)]
    process = subprocess.run(
        [sys.executable, "-c", OFFLINE, *words],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert (process.returncode == 0) == (process.stdout == ""), process.stdout
    return process.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "html"
    assert build(DOCS, folder) == ""
    return folder


@cache
def parsed(page: Path) -> Any:
    from bs4 import BeautifulSoup

    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(page: Path) -> set[str]:
    return {one["id"] for one in parsed(page).select("[id]")}


def written() -> list[str]:
    """The pages that were written by hand."""
    return [page.relative_to(DOCS).with_suffix(".html").as_posix() for page in PAGES]


def links(page: Path, within: str = "") -> Iterator[tuple[Path, str]]:
    """The file and the anchor that each link to another part of the site leads to."""
    for link in parsed(page).select(f"{within} a[href]"):
        target, _, anchor = unquote(link["href"]).partition("#")
        if not re.match(r"[a-z]+:", target):
            yield ((page.parent / target).resolve() if target else page), anchor


def test_every_page_is_on_the_site(site: Path) -> None:
    assert len(written()) > 30
    assert [name for name in written() if not (site / name).is_file()] == []


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    broken = []
    for page in site.rglob("*.html"):
        for target, anchor in links(page):
            if not target.is_file() or anchor not in {"", *anchors(target)}:
                broken.append((page.name, target.name, anchor))
    assert broken == []


def test_every_page_is_two_clicks_from_the_start_page(site: Path) -> None:
    """By links in the text alone, so that it holds where the pages are read as files, too."""
    reached = {site / START}
    for _ in range(2):
        reached |= {target for page in reached for target, _ in links(page, "article")}
    assert {site / name for name in written()} <= reached


def test_the_first_page_is_the_start_page(site: Path) -> None:
    assert [target for target, _ in links(site / "index.html")] == [site / START]
    assert f"url={START}" in (site / "index.html").read_text(encoding="utf-8")


def test_the_navigation_has_the_four_kinds_of_documentation(site: Path) -> None:
    captions = [one.get_text() for one in parsed(site / START).select(".sidebar-tree .caption")]
    assert captions == ["Tutorials", "How-to guides", "Reference", "Explanation"]


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = []
    for page in site.rglob("*.html"):
        elements = parsed(page).select("[src], link[href], [srcset], object[data], style")
        loaded += [str(one) for one in elements if re.search(r"(https?:)?//[\w-]+\.", str(one))]
    for sheet in site.rglob("*.css"):
        loaded += re.findall(r"(?:url\(|@import)\W*(?:https?:)?//.*", sheet.read_text("utf-8"))
    assert loaded == []


def index_of(site: Path) -> dict[str, Any]:
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index: dict[str, Any] = json.loads(text.removeprefix("Search.setIndex(").rstrip(")"))
    return index


def test_the_search_knows_words_of_every_page(site: Path) -> None:
    index = index_of(site)
    words: dict[int, int] = {}
    for found in index["terms"].values():
        for number in [found] if isinstance(found, int) else found:
            words[number] = words.get(number, 0) + 1
    known = {f"{name}.html": words[number] for number, name in enumerate(index["docnames"])}
    assert set(written()) <= set(known)
    assert min(known.values()) > 5


def test_the_api_reference_has_every_public_name_with_its_docstring(site: Path) -> None:
    page = parsed(site / "api-reference.html")
    assert not re.search(r"<factory>|Annotated\[|~\w+\.", page.get_text())
    for name in set(dir(fedcli)) - {"__version__"}:
        entry = page.find(id=f"fedcli.{name}")
        assert entry is not None, name
        value = getattr(fedcli, name)
        if isinstance(value, dict):
            assert set(value) <= {code.get_text() for code in entry.parent.select("dd code")}
        else:
            first = value.__doc__.partition(".")[0].replace("`", "").split()
            assert " ".join(first) in " ".join(entry.parent.get_text().split()), name


def test_faults_of_pages_fail_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(DOCS / "_templates", docs / "_templates")
    shutil.copy(DOCS / "conf.py", docs)
    start = "# Start\n\n## Reference\n\n- [A](a.md): a page\n"
    (docs / "README.md").write_text(start, encoding="utf-8")
    (docs / "a.md").write_text("# A\n\n[x](gone.md) and [y](README.md#gone)\n", encoding="utf-8")
    (docs / "orphan.md").write_text("# Nobody links here\n", encoding="utf-8")
    said = build(docs, tmp_path / "html").splitlines()
    faults = ("a.md:3", "gone.md"), ("a.md:3", "'README': 'gone'"), ("orphan.md", "any toctree")
    for page, fault in faults:
        assert any(page in line and fault in line for line in said), said


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
def test_pages_and_search_work_in_a_browser_from_files(site: Path) -> None:
    with browser.browser() as opened:
        for width, dark in ((1200, False), (400, True)):
            for name in (START, "commands/README.html", "api-reference.html", "tutorial.html"):
                opened.open(site / name, width, dark=dark)
                assert opened.complaints() == []
                wide = "return document.documentElement.scrollWidth <= window.innerWidth"
                assert opened.run(wide), (name, width)
        opened.driver.get((site / "search.html").as_uri() + "?q=krum")
        found = "return [...document.querySelectorAll('#search-results li a')].map((a) => a.href)"
        for _ in range(600):
            results = opened.run(found)
            if any(result.endswith("robustness.html") for result in map(strip, results)):
                break
        else:
            pytest.fail(f"krum is found on {results}")


def strip(address: str) -> str:
    return re.split(r"[?#]", address)[0]
