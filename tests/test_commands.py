"""Every command that the README, the book and the Makefile name does what it says.

Only `make test` and `make test-oldest` are not run here: they would run this.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import nbformat
import pytest
from PIL import Image

from mbml.figures import FIGURES
from tests.make import ROOT, make
from tools.first_cell import TAG, first_cell

BIN = Path(sys.prefix, "bin")
PROSE = ("README.md", "CONTRIBUTING.md", "book/how-to-use.md")


def written(fence: str) -> list[str]:
    """The lines of all blocks of code of one language, comments dropped, each once."""
    lines = []
    for file in PROSE:
        for block in re.findall(rf"(?ms)^```{fence}\n(.*?)^```", (ROOT / file).read_text()):
            lines += [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]
    return list(dict.fromkeys(filter(None, lines)))


def indented(start: str) -> list[str]:
    """The lines of the README's indented blocks that begin so: commands that need data."""
    return re.findall(rf"(?m)^    ({start} .*)$", (ROOT / "README.md").read_text())


def run(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one line in `folder` with the commands of this environment."""
    words = shlex.split(re.sub(r"^(\.venv/bin/)?", f"{BIN}/", line))
    everything = os.environ | {"MBML_DATA": str(folder / "data")} | environment
    return subprocess.run(
        words, cwd=folder, env=everything, capture_output=True, text=True, timeout=600
    )


# --- mbml ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [line for line in written("bash") if "mbml " in line])
def test_a_command_as_written(line, tmp_path):
    done = run(line, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() and "Traceback" not in done.stderr
    if " run " in line:
        recipe = shlex.split(line)[2]
        result = json.loads((tmp_path / "runs" / recipe / "0/result.json").read_text())
        assert result["recipe"] == recipe
    if " figure " in line and "--out" in line:
        words = shlex.split(line)
        for kind in ("png", "svg", "json"):
            assert (tmp_path / words[words.index("--out") + 1] / f"{words[2]}.{kind}").exists()


def test_images_of_your_own(tmp_path):
    """One folder a class; the two lines of the README, with training cut short."""
    prepare, train = (line for line in indented("mbml") if "birds" in line)
    for number in range(70):
        folder = tmp_path / "path/to/birds" / f"bird-{number:02}"
        folder.mkdir(parents=True)
        for shade in range(20):
            Image.new("RGB", (32, 32), (3 * number, 10 * shade, 99)).save(folder / f"{shade}.png")
    done = run(prepare, tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(f"{train} --stop-at 2 --episodes 2", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "birds" in done.stdout


def test_miniimagenet_is_asked_for_where_it_is_missing(tmp_path):
    """The images cannot be had by everybody: without them both lines say in one what to do."""
    lines = [line for line in indented("mbml") if "miniimagenet" in line and "birds" not in line]
    assert len(lines) == 2
    for line in lines:
        done = run(line, tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1 and "miniimagenet" in done.stderr


def test_the_readmes_python(tmp_path):
    code = "\n".join(
        re.search(r"(?ms)^```python\n(.*?)^```", (ROOT / "README.md").read_text()).groups()
    )
    done = run(f"python -c {shlex.quote(code)}", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"0\.\d+", done.stdout)


# --- make ---------------------------------------------------------------------------------------

TESTED = {
    "help": "test_help",
    "book": "test_book",
    "chapters": "tests/book/test_nbval.py",
    "serve": "test_serve",
    "lab": "test_lab",
    "figures": "test_figures",
    "refresh": "test_refresh",
    "clean": "test_clean",
}
TESTING = {"test", "test-oldest"}


def test_help():
    listed = re.findall(r"(?m)^make ([a-z-]+) +\S", make("help").stdout)
    assert set(listed) == set(TESTED) | TESTING
    assert make().stdout == make("help").stdout
    for name, where in TESTED.items():
        assert where in globals() or (ROOT / where).exists(), name
    named = {shlex.split(line)[1] for line in written("bash") if line.startswith("make ")}
    assert named <= set(listed)


def test_book(html):
    """Nothing is built again where nothing changed."""
    before = (html / "index.html").stat().st_mtime_ns
    done = make("book")
    assert done.returncode == 0 and "_build/html/index.html" in done.stdout
    assert (html / "index.html").stat().st_mtime_ns == before


@contextmanager
def running(*words: str, **environment: str):
    """A `make` that does not end by itself, stopped afterwards with all that it started."""
    with tempfile.TemporaryFile("w+") as log:  # a pipe that nobody reads would stop the server
        process = subprocess.Popen(
            ["make", *words, f"VENV={sys.prefix}"], cwd=ROOT, env=os.environ | environment,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )
        try:
            yield process, log
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def answer(address: str, process: subprocess.Popen, log: IO[str]) -> str:
    """What a server says once it is up. An answer that is an error is not waited away."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=10) as page:
                return page.read().decode()
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert process.poll() is None, log.seek(0) or log.read()
            time.sleep(0.2)
    raise TimeoutError(address)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_serve(html):
    port = free_port()
    with running("serve", f"PORT={port}") as server:
        assert "book/welcome.html" in answer(f"http://127.0.0.1:{port}/index.html", *server)


def test_lab(tmp_path):
    port = free_port()
    server = {"port": port, "open_browser": False, "allow_root": True}
    config = {"ServerApp": server, "IdentityProvider": {"token": ""}}
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps(config))
    with running("lab", JUPYTER_CONFIG_DIR=str(tmp_path)) as running_lab:
        chapters = answer(
            f"http://127.0.0.1:{port}/api/contents/book/foundations", *running_lab
        )
    assert "posterior-collapse.ipynb" in chapters


def test_figures():
    done = make("figures", "SCALE=smoke")
    assert done.returncode == 0, done.stderr[-3000:]
    for name in FIGURES:
        assert json.loads((ROOT / f"_build/figures/smoke/{name}.json").read_text())
        for kind in ("png", "svg"):
            assert (ROOT / f"_build/figures/smoke/{name}.{kind}").stat().st_size > 1000


def test_refresh(tmp_path):
    first = nbformat.v4.new_code_cell("stale = True", metadata={"tags": [TAG]})
    widget = nbformat.v4.new_code_cell("import ipywidgets\nprint(6 * 7)\nipywidgets.IntSlider()")
    good, bad = tmp_path / "good.ipynb", tmp_path / "bad.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[first, widget]), good)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), bad)
    before = bad.read_bytes()

    done = make("refresh", f"CHAPTERS={good} {bad}")
    assert done.returncode != 0 and "ZeroDivisionError" in done.stderr
    assert bad.read_bytes() == before and sorted(tmp_path.iterdir()) == [bad, good]
    executed = nbformat.read(good, as_version=4)
    assert executed.cells[0].source == first_cell()
    assert [cell.execution_count for cell in executed.cells] == [1, 2]
    assert executed.cells[1].outputs[0].text == "42\n"
    assert "widget" not in json.dumps([executed.metadata, executed.cells[1].outputs[0]])
    assert "widget-view" not in good.read_text()

    once = good.read_bytes()
    assert make("refresh", f"CHAPTERS={good}").returncode == 0
    assert good.read_bytes() == once


def test_clean(tmp_path):
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    for folder in ("_build/html", "mbml/__pycache__", ".venv/lib/__pycache__", "book"):
        (tmp_path / folder).mkdir(parents=True)
    assert make("clean", cwd=tmp_path).returncode == 0
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_dir()}
    assert left == {"mbml", ".venv", ".venv/lib", ".venv/lib/__pycache__", "book"}
