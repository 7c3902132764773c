import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from mbml import progress


class Shown:
    """Stands for IPython: collects what a notebook would show."""

    def __init__(self, monkeypatch):
        self.shown = []
        shell = SimpleNamespace(kernel=object())
        ipython = SimpleNamespace(get_ipython=lambda: shell)
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=self.display))

    def display(self, content, *, raw, display_id):
        assert raw and display_id
        self.shown.append(content)
        return SimpleNamespace(update=self.update)

    def update(self, content, *, raw):
        self.shown.append(content)


def test_a_notebook_gets_one_line_of_text_and_keeps_no_times(monkeypatch, capfd):
    notebook = Shown(monkeypatch)
    with progress.bar(3, label="training") as bar:
        for _ in range(3):
            bar.update()
            bar.set_postfix({"loss": 0.51234})
    assert all(list(content) == ["text/plain"] for content in notebook.shown)
    texts = [content["text/plain"] for content in notebook.shown]
    assert "it/s" in texts[1] or "step/s" in texts[1]
    assert texts[-1] == "training, 3 of 3 steps, loss=0.512"
    bar.close()
    assert len(notebook.shown) == len(texts)
    assert capfd.readouterr() == ("", "")


def test_a_bar_that_is_switched_off_shows_nothing(monkeypatch, capfd):
    notebook = Shown(monkeypatch)
    with progress.bar(3, enabled=False) as bar:
        bar.update(3)
        bar.set_postfix({"loss": 1.0})
    assert notebook.shown == [] and capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_and_a_log_file_none(monkeypatch, capsys):
    with progress.bar(10, initial=4) as bar:
        bar.update(6)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.bar(10, initial=4) as bar:
        bar.update(6)
    out, err = capsys.readouterr()
    assert out == "" and "10/10" in err


def test_no_thread_is_left_behind():
    before = threading.active_count()
    with progress.bar(1) as bar:
        bar.update()
    assert threading.active_count() == before


def test_the_first_ctrl_c_is_remembered_and_the_second_raised():
    with progress.CtrlC() as ctrl_c:
        assert not ctrl_c.asked
        signal.raise_signal(signal.SIGINT)
        assert ctrl_c.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_that_ignores_ctrl_c_goes_on_ignoring_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with progress.CtrlC() as ctrl_c:
            signal.raise_signal(signal.SIGINT)
            assert not ctrl_c.asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_trains_without_listening():
    asked = []

    def listen():
        with progress.CtrlC() as ctrl_c:
            asked.append(ctrl_c.asked)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert asked == [False]
