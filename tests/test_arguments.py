import argparse
import json

import pytest

from mbml.arguments import Parser, division, whole


def test_a_count_is_a_whole_number_from_some_on():
    assert whole(2)("2") == 2
    for text in ("1", "-3", "2.0", "two", "", "1e3"):
        with pytest.raises(argparse.ArgumentTypeError, match="a whole number from 2 on"):
            whole(2)(text)


def test_a_split_is_shares_or_lists(tmp_path):
    assert division("0.5,0.25,0.25") == (0.5, 0.25, 0.25)
    lists = {"train": ["a", "7"], "test": ["b"]}
    path = tmp_path / "lists.yaml"
    path.write_text("train: [a, 7]\ntest: [b]\n")
    assert division(str(path)) == lists
    path.write_text(json.dumps(lists))
    assert division(str(path)) == lists
    for wrong in ("a: b", "- a", "{", "!!python/name:os.system"):
        path.write_text(wrong)
        with pytest.raises(argparse.ArgumentTypeError):
            division(str(path))
    with pytest.raises(argparse.ArgumentTypeError, match="neither shares nor a list"):
        division("0.5;0.5")


def test_an_epilog_is_computed_only_when_it_is_shown():
    asked = []
    parser = Parser(prog="mbml x")
    parser.lazy_epilog = lambda: asked.append(1) or "names: a, b"
    parser.parse_args([])
    assert not asked and "names: a, b" in parser.format_help()


def test_an_error_is_a_value_error_that_names_the_alternatives():
    parser = Parser(prog="mbml x")
    parser.add_argument("--kind", choices=("left", "right"))
    with pytest.raises(ValueError, match="did you mean 'right'\\? known: left, right"):
        parser.parse_args(["--kind", "rigt"])
    with pytest.raises(ValueError, match="did you mean '--kind'"):
        parser.refuse("--kindd=left")
