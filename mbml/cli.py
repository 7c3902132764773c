"""The command `mbml`: what there is, training by recipe, results, figures, and a check-up.

A mistake is answered with one line on stderr that names the alternatives, and exit code 2; what
goes wrong later (a full disk, a loss that is not finite) with one line and exit code 1; Ctrl-C with
one line and 130. What a command needs is imported when it runs, so that `mbml --help` is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mbml.arguments import Parser, division, whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and give its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parse(argv)
        code = args.do(args) or 0
        sys.stdout.flush()  # here, where a closed pipe is dealt with
        return code
    except KeyboardInterrupt as stop:
        # with a word in it: `fit` has said already what became of the run that it was training
        return 130 if stop.args else _say("interrupted", 130)
    except BrokenPipeError:  # the reader of a pipe (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, FileNotFoundError) as error:
        if "--traceback" in argv:
            raise
        return _say(str(error), 2)
    except (OSError, ArithmeticError, RuntimeError) as error:
        if "--traceback" in argv:
            raise
        return _say(f"{error} ({type(error).__name__}; `mbml --traceback ...` says where)", 1)


def _say(line: str, code: int) -> int:
    print("mbml: " + " ".join(line.split()).removeprefix("mbml: "), file=sys.stderr)
    return code


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, with the function that does the work in `do`.

    Raises:
        ValueError: for anything that is not as `mbml --help` has it; in one line.
    """
    args, unknown = parser().parse_known_args(argv or ["--help"])
    if unknown:
        args.parser.refuse(unknown[0])
    return args


def parser() -> Parser:
    """Every command with its arguments."""
    top = Parser(prog="mbml", description="Bayesian meta-learning, from the command line.")
    top.add_argument("--version", action="version", version=_version())
    top.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = top.add_subparsers(metavar="COMMAND", dest="command", required=True)

    def command(within: Any, name: str, do: Callable | None, text: str, **options: Any) -> Parser:
        made = within.add_parser(name, help=text, description=text, **options)
        made.set_defaults(do=do, parser=made)
        return made

    def listing(made: Parser) -> None:
        made.add_argument("--json", action="store_true", help="as JSON")

    listing(command(commands, "methods", _methods, "list the methods"))
    listing(command(commands, "recipes", _recipes, "list the recipes of published experiments"))
    listing(command(commands, "datasets", _datasets, "list the image sets and what is there"))

    data = command(commands, "data", None, "bring image sets into shape")
    data = data.add_subparsers(metavar="prepare", dest="data command", required=True)
    prepare = command(
        data, "prepare", _prepare, "check an image set and write it as one array a split"
    )
    prepare.lazy_epilog = _layouts
    prepare.add_argument("name", metavar="NAME", help="a known image set, or a new name of yours")
    prepare.add_argument("--from", dest="source", metavar="PATH", help="folder or archive")
    prepare.add_argument("--download", action="store_true", help="fetch it, where that is allowed")
    own = prepare.add_argument_group("images of your own")
    own.add_argument("--size", type=whole(1), metavar="PIXELS", help="height and width; 84")
    own.add_argument("--channels", type=int, choices=(1, 3), help="1 grey, 3 colour; 3")
    own.add_argument(
        "--split",
        type=division,
        metavar="SPLIT",
        help=(
            "shares of the classes for train, val, test, drawn at random (0.64,0.16,0.2), or a "
            "YAML file that lists the classes of each"
        ),
    )
    own.add_argument("--seed", type=whole(0), metavar="S", help="of that draw; 0")
    own.add_argument("--repeats", action="store_true", default=None, help="images may repeat")

    run = command(
        commands, "run", _run,
        "train by a recipe, going on where a run stopped, evaluate, write runs/RECIPE/SEED",
    )  # fmt: skip
    run.add_argument("recipe", metavar="RECIPE", help="see `mbml recipes`, or your own FILE.yaml")
    run.add_argument("--seed", type=whole(0), default=0, metavar="S", help="0 by default")
    run.add_argument("--stop-at", type=whole(1), metavar="N", help="stop training after step N")
    run.add_argument("--dataset", metavar="NAME", help="train and test on another image set")
    run.add_argument("--devices", type=whole(1), default=1, metavar="N", help="1 by default")
    run.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    run.add_argument("--compile", action="store_true", help="through torch.compile")
    evaluate = command(commands, "evaluate", _evaluate, "evaluate a run anew")
    evaluate.add_argument("run", metavar="RUN", help="a folder such as runs/RECIPE/0")
    for made in (run, evaluate):
        made.add_argument(
            "--episodes", type=whole(2), metavar="N", help="test episodes, else as the recipe says"
        )
        made.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
        listing(made)

    results = command(commands, "results", None, "kept results")
    results = results.add_subparsers(metavar="keep|show", dest="results command", required=True)
    keep = command(results, "keep", _keep, "copy a run's result to results/")
    keep.add_argument("run", metavar="RUN", help="a folder such as runs/RECIPE/0")
    keep.add_argument("--weights", action="store_true", help="and its weights, if they are few")
    keep.add_argument("--force", action="store_true", help="even in place of a longer run")
    listing(command(results, "show", _show, "published and ours, side by side"))

    figure = command(commands, "figure", _figure, "draw a figure of the book again")
    figure.lazy_epilog = _figure_names
    figure.add_argument("name", metavar="NAME", nargs="?", help="none: list the figures")
    figure.add_argument("--scale", choices=("smoke", "laptop", "paper"), default="laptop")
    figure.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of its chapter"
    )
    figure.add_argument("--out", default=".", metavar="DIR", help="for NAME.png, .svg and .json")
    listing(figure)

    listing(command(commands, "doctor", _doctor, "versions, devices, data, and what is missing"))
    return top


def _methods(args: argparse.Namespace) -> None:
    from mbml import learners

    rows = []
    for name, learner in learners.methods().items():
        about = (sys.modules[learner.__module__].__doc__ or "").strip().splitlines()[:1]
        family = learner.__module__.split(".")[-2]
        rows.append({"method": name, "family": family, "about": "".join(about).rstrip(".")})
    _list(rows, args.json)


def _recipes(args: argparse.Namespace) -> None:
    from mbml import recipes, results

    rows = []
    for recipe in recipes.every():
        published = recipe.published.model_dump() if recipe.published else None
        row = {"recipe": recipe.name, "method": recipe.method, "dataset": recipe.dataset}
        row["protocol"] = recipe.measured_as.model_dump() if args.json else recipe.measured_as
        row["published"] = published if args.json else results.printed(published)
        rows.append(row)
    _list(rows, args.json)


def _datasets(args: argparse.Namespace) -> None:
    from mbml import doctor, images

    sets = images.datasets()
    _list(sets if args.json else doctor.in_columns(sets), args.json)


def _prepare(args: argparse.Namespace) -> None:
    from mbml import doctor, images

    own = {key: getattr(args, key) for key in ("size", "channels", "seed", "repeats", "split")}
    own = {key: value for key, value in own.items() if value is not None}
    images.prepare(args.name, args.source, download=args.download, progress=True, **own)
    _list(doctor.in_columns([s for s in images.datasets() if s["dataset"] == args.name]), False)


def _run(args: argparse.Namespace) -> None:
    from mbml import recipes, run

    recipe = recipes.load(args.recipe)
    if args.dataset is not None:
        recipe = recipe.on(args.dataset)
    with contextlib.redirect_stdout(sys.stderr):  # on stdout nothing but the result
        result = run.run(
            recipe,
            seed=args.seed,
            stop_at=args.stop_at,
            episodes=args.episodes,
            device=args.device,
            devices=args.devices,
            precision=args.precision,
            compile=args.compile,
        )
    if result is not None:  # in the first of several processes
        _report(result, args.json)


def _evaluate(args: argparse.Namespace) -> None:
    from mbml import run

    _report(run.evaluate(args.run, episodes=args.episodes, device=args.device), args.json)


def _report(result: Any, as_json: bool) -> None:
    from mbml import results

    print(result.model_dump_json(indent=1) if as_json else results.table([], [result], others=True))


def _keep(args: argparse.Namespace) -> None:
    from mbml import results

    print(results.keep(args.run, weights=args.weights, force=args.force))


def _show(args: argparse.Namespace) -> None:
    from mbml import recipes, results

    table = results.table(recipes.every(), results.kept(), others=True)
    print(json.dumps(table, indent=1) if args.json else table)


def _figure(args: argparse.Namespace) -> None:
    from pathlib import Path

    from mbml.figures import regenerate, registry

    if args.name is None:
        rows = [{"figure": name, "chapter": chapter} for name, chapter in registry().items()]
        return _list(rows, args.json)
    settings = {}
    for setting in args.set:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"--set takes KEY=VALUE, such as seed=1, not {setting!r}")
        settings[key] = value
    for path in regenerate(args.name, scale=args.scale, settings=settings, out=Path(args.out)):
        print(path)
    return None


def _doctor(args: argparse.Namespace) -> int:
    from mbml import doctor

    report = doctor.report()
    print(json.dumps(report, indent=1) if args.json else doctor.text(report))
    return 1 if report["missing"]["packages"] else 0


def _list(rows: Iterable[dict[str, Any]], as_json: bool) -> None:
    rows = list(rows)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    lines = [[str(value) for value in row.values()] for row in rows]
    lines = [[*rows[0]], *lines] if rows else []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())


def _figure_names() -> str:
    from mbml.figures import registry

    try:
        return "\n  ".join(["figures:", *registry()])
    except FileNotFoundError as error:  # the chapters are not installed with the package
        return str(error)


def _layouts() -> str:
    from mbml import images

    return images.LAYOUTS


def _version() -> str:
    import mbml

    return f"mbml {mbml.__version__}"
