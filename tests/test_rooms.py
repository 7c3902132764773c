"""The shape that DESIGN.md states: who may import whom, and what the API page shows."""

import ast
from pathlib import Path

import mbml

PACKAGE = Path(mbml.__file__).parent
ROOT = PACKAGE.parent
NAMES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
         for path in PACKAGE.rglob("*.py")}

# From the ground up. A module imports from its own floor and from those before it.
FLOORS = (
    ("episodes", "names", "files", "progress", "noise"),
    ("nets", "inference", "targets", "objectives", "predictive", "distributions",
     "uncertainty"),
    ("learners", "tasks", "images"),
    ("fit", "evaluate", "active", "ood", "bandits", "representations", "training", "checkpoints",
     "devices", "doctor"),
    ("run", "recipes", "results", "records"),
    ("figures", "interactive", "gaussian_toy", "arguments", "cli", "__main__"),
)
# What a user does not call has no place on the API page.
INTERNAL = {"mbml", "mbml.__main__", "mbml.arguments", "mbml.cli", "mbml.doctor", "mbml.files",
            "mbml.names", "mbml.images.convert", "mbml.images.embedded", "mbml.images.files",
            "mbml.images.layouts", "mbml.images.published", "mbml.images.unpickle"}


def imports(path: Path) -> set[str]:
    """The modules of mbml that the file at `path` imports, wherever in the file it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & NAMES - {"mbml"}


def floor(module: str) -> int:
    """The floor of `module`; every room is listed exactly once."""
    room = module.split(".")[1]
    (found,) = [i for i, rooms in enumerate(FLOORS) if room in rooms]
    return found


def test_a_room_imports_only_from_the_floors_below_it():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module != "mbml":
            wrong += [f"{module} imports {other}" for other in sorted(imports(path))
                      if floor(other) > floor(module)]
    assert not wrong, wrong


def test_learners_and_networks_know_nothing_of_data_or_of_each_other():
    forbidden = {"learners": ("tasks", "images", "fit", "evaluate"), "nets": ("learners",)}
    wrong = [f"{path.name} imports {other}"
             for room, others in forbidden.items() for path in (PACKAGE / room).rglob("*.py")
             for other in sorted(imports(path)) if other.split(".")[1] in others]
    assert not wrong, wrong


def test_every_public_module_stands_on_one_page_of_the_api():
    pages = "\n".join(path.read_text() for path in sorted((ROOT / "book" / "api").glob("*.md")))
    shown = [line.split(":: ")[1] for line in pages.splitlines() if "automodule:: " in line]
    families = {f"mbml.learners.{path.name}" for path in (PACKAGE / "learners").iterdir()}
    assert sorted(shown) == sorted(NAMES - INTERNAL - families)
