"""The built pages, read as files: all there, whole, small, and needing nothing from elsewhere."""

import functools
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from tests.book.chapters import TRACEBACK, says_nothing
from tests.make import ROOT
from tools.first_cell import repository
from tools.refresh import chapters, pages

MAX_BYTES = 3_000_000
COLAB = "https://colab.research.google.com/github/"

every_page = pytest.mark.parametrize("page", pages())
every_api_page = pytest.mark.parametrize(
    "page", [page for page in pages() if page.startswith("book/api/")])


@functools.cache
def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


@functools.cache
def anchors(path: Path) -> set[str]:
    """Where in a page a link may lead."""
    return set(re.findall(r'\bid="([^"]+)"', path.read_text()))


@pytest.fixture
def soup(html, page) -> BeautifulSoup:
    return parsed(html / f"{page}.html")


def external(address: str) -> bool:
    return urlsplit(address).scheme in ("http", "https") or address.startswith("//")


def test_the_book_opens_on_its_first_page(html):
    index = (html / "index.html").read_text()
    assert f"{pages()[0]}.html" in index


def test_every_chapter_and_page_is_in_the_table_of_contents():
    files = [*ROOT.glob("book/**/*.ipynb"), *ROOT.glob("book/**/*.md")]
    there = [path for path in files if ".ipynb_checkpoints" not in path.parts]
    named = [path.relative_to(ROOT).with_suffix("").as_posix() for path in there]
    assert sorted(named) == sorted(pages())


@every_api_page
def test_examples_in_docstrings_are_set_as_code(soup):
    # without "::" in front of it an indented example is a quoted paragraph
    assert not soup.find_all("blockquote")


@every_api_page
def test_what_stands_as_a_type_is_one(soup):
    # of an attribute, what comes before the first colon is taken for its type
    fields = [name for name in soup.find_all("dt") if name.get_text() == "Type:"]
    types = [name.find_next("dd").get_text().strip() for name in fields]
    assert not [text for text in types if not re.fullmatch(r"\S+((, | \| )\S+)*", text)]


@every_page
def test_is_whole(soup):
    text = soup.find("article").get_text()
    assert soup.find("h1") and len(text) > 200
    assert TRACEBACK not in str(soup)
    for leftover in ("{solution-", "{exercise}", "{term}", "{doc}", "{cite", "{eq}", "{numref}"):
        assert leftover not in text


@every_page
def test_is_small(html, page, soup):
    shown = {html / page / ".." / unquote(image["src"]) for image in soup.find_all("img")
             if not image["src"].startswith("data:") and not external(image["src"])}
    total = sum(path.resolve().stat().st_size for path in [html / f"{page}.html", *shown])
    assert total < MAX_BYTES


@every_page
def test_loads_nothing_from_elsewhere(html, page, soup):
    loaded = [tag["src"] for tag in soup.select("[src]")]
    loaded += [tag["href"] for tag in soup.select("link[href]") if "canonical" not in tag["rel"]]
    assert [address for address in loaded if external(address)] == []
    for address in loaded:
        if not address.startswith("data:"):
            path = (html / page).parent / unquote(urlsplit(address).path)
            assert path.exists(), f"{address} is missing"


@every_page
def test_pictures_and_inputs_are_named(soup):
    article = soup.find("article")
    for image in article.find_all("img"):
        assert not says_nothing(image.get("alt")), str(image)[:200]
    for control in article.find_all("input"):
        assert article.find("label", attrs={"for": control.get("id")}), control


@every_page
def test_links_within_the_book_arrive(html, page, soup):
    for link in soup.find("article").select("a[href]"):
        address = urlsplit(link["href"])
        if address.scheme or address.netloc:
            continue
        path = html / f"{page}.html"
        if address.path:
            path = path.parent / unquote(address.path)
        assert path.exists(), link["href"]
        if address.fragment:
            assert unquote(address.fragment) in anchors(path.resolve()), link["href"]


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_the_colab_button_opens_the_notebook(html, path):
    notebook = path.relative_to(ROOT)
    soup = parsed(html / notebook.with_suffix(".html"))
    buttons = [a["href"] for a in soup.select("a[href]") if a["href"].startswith(COLAB)]
    here = repository().removeprefix("https://github.com/")
    assert set(buttons) == {f"{COLAB}{here}/blob/main/{notebook.as_posix()}"}
    tracked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", str(notebook)], cwd=ROOT, capture_output=True
    )
    assert tracked.returncode == 0, f"{notebook} is not in git"


def test_style_sheets_load_nothing_from_elsewhere(html):
    for path in html.glob("_static/**/*.css"):
        sheet = re.sub(r"/\*.*?\*/", "", path.read_text(errors="replace"), flags=re.DOTALL)
        found = re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", sheet)
        assert found == [], Path(path).name
