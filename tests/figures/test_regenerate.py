"""Figures of a small book, made again."""

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

from mbml import figures
from mbml.figures.regenerate import regenerate, registry

PARAMETERS = 'scale = "laptop"\nseed = 0\nrate = 0.5\nsizes = [1, 2]\ndataset = "glyphs"\n'
IMPORTS = ("import os, sys\nfrom pathlib import Path\nfrom mbml.figures import show, subplots\n"
           "from mbml.interactive import slider\n%config IPCompleter.greedy = True")
FIRST = ('fig, ax = subplots()\n'
         'data = {"scale": scale, "seed": seed, "rate": rate, "sizes": sizes,\n'
         '        "dataset": dataset, "python": sys.executable, "folder": Path.cwd().name}\n'
         'show("first", fig, data, alt="An empty pair of axes", scale=scale)')
SECOND = ('slider(lambda n: (subplots()[0], n), [1, 2], label="n", name="second", scale=scale,\n'
          '       alts=lambda n: f"No points of {n}")')


def book(root: Path, *cells: str, file: str = "part/chapter.ipynb") -> Path:
    code = [nbformat.v4.new_code_cell(cell) for cell in (PARAMETERS, *cells)]
    code[0].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), *code])
    # A kernel that is not there: what runs is the interpreter at hand.
    notebook.metadata["kernelspec"] = {"name": "elsewhere", "language": "python",
                                       "display_name": "Elsewhere"}
    path = root / "book" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return root


def test_registry_is_read_from_the_chapters(tmp_path):
    book(tmp_path, IMPORTS, FIRST, SECOND)
    book(tmp_path, 'plt.show()\nfigures.show(fig=fig, name="third")', file="other.ipynb")
    assert registry(tmp_path) == {"first": "book/part/chapter.ipynb", "third": "book/other.ipynb",
                                  "second": "book/part/chapter.ipynb"}


def test_registry_refuses_a_name_shown_twice_or_computed(tmp_path):
    book(tmp_path / "twice", FIRST, FIRST)
    with pytest.raises(ValueError, match="already shows a figure 'first'"):
        registry(tmp_path / "twice")
    book(tmp_path / "computed", 'show(f"fig-{n}", fig, data)')
    with pytest.raises(ValueError, match="write the figure's name out"):
        registry(tmp_path / "computed")


def test_every_show_call_of_the_book_is_registered_and_says_its_scale():
    """A plain text search, independent of the registry's reading, finds the same names."""
    root = Path(__file__).parents[2]
    found = {}
    for path in (root / "book").rglob("*.ipynb"):
        if ".ipynb_checkpoints" in path.parts:
            continue
        for cell in json.loads(path.read_text())["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code" or not re.search(r"\b(show|sliders?)\(", source):
                continue
            names = re.findall(r'(?:\bshow\(\s*|\bname=)"([a-z0-9-]+)"', source)
            found |= dict.fromkeys(names, path.relative_to(root).as_posix())
            assert not names or "scale=scale" in source, f"{path.name}: {names} without its scale"
    if found:
        assert found == figures.FIGURES == registry(root)


def test_one_figure_with_settings(tmp_path):
    # The cell behind the figure would fail: it is not reached.
    root = book(tmp_path, IMPORTS, FIRST, "1 / 0")
    written = regenerate("first", scale="smoke", root=root, out=tmp_path / "out",
                         settings={"seed": "3", "rate": "1e-2", "sizes": "[4]", "dataset": "5"})
    assert [path.name for path in written] == ["first.png", "first.svg", "first.json"]
    assert sorted(os.listdir(tmp_path / "out")) == ["first.json", "first.png", "first.svg"]
    assert json.loads(written[2].read_text()) == {
        "scale": "smoke", "seed": 3, "rate": 0.01, "sizes": [4], "dataset": "5",
        "python": sys.executable, "folder": "part"}
    assert not (tmp_path / "book/part/drawn").exists()


def test_a_chapter_that_fails_says_why_in_one_line(tmp_path):
    root = book(tmp_path, "gone = {}\ngone['astray']", FIRST)
    said = r"chapter\.ipynb: KeyError: 'astray'.*gone = {}"
    with pytest.raises(RuntimeError, match=said) as error:
        regenerate("first", root=root, out=tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_chapter_that_does_not_show_it_after_all(tmp_path, monkeypatch):
    module = sys.modules["mbml.figures.regenerate"]
    monkeypatch.setattr(module, "_execute", lambda *_: None)
    with pytest.raises(RuntimeError, match="at scale 'paper' it does not show 'first'"):
        regenerate("first", scale="paper", root=book(tmp_path, FIRST), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change, message", [
    ({"name": "frist"}, "did you mean 'first'"),
    ({"scale": "huge"}, "laptop, paper, smoke"),
    ({"settings": {"sede": 1}}, "dataset, rate, seed, sizes"),
    ({"settings": {"scale": "smoke"}}, "dataset, rate, seed, sizes"),
    ({"settings": {"seed": "three"}}, "type int"),
    ({"settings": {"seed": "0.5"}}, "type int"),
    ({"settings": {"seed": True}}, "type int"),
    ({"settings": {"rate": ".nan"}}, "finite"),
    ({"settings": {"sizes": "{"}}, "type list"),
])
def test_bad_requests_are_refused_before_anything_runs(change, message, tmp_path, monkeypatch):
    import papermill
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("it ran"))
    arguments = {"name": "first", "scale": "smoke"} | change
    with pytest.raises(ValueError, match=message) as error:
        regenerate(arguments.pop("name"), root=book(tmp_path, IMPORTS, FIRST),
                   out=tmp_path / "out", **arguments)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_without_a_clone_it_says_what_to_do(tmp_path, monkeypatch):
    module = sys.modules["mbml.figures.regenerate"]  # the package has a function of this name
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a/b/c/d.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="clone the repository"):
        regenerate("first")
