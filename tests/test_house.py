"""The house: rooms of at most ten files, files of one story, a test file for each, and a README that shows what is there."""

import ast
import importlib
import operator
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src/raylight"
FILES = sorted(SRC.rglob("*.py"))
MODULES = {".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__") for file in FILES}
ROOMS = sorted(file.parent for file in FILES if file.name == "__init__.py" and file.parent != SRC)
README_TREE = re.search(r"^conf/ .*?(?=```)", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)

LINES = 350
LONGER = {"config.schema": "the single list of all settings, read from top to bottom"}
"""Files that tell one story in more lines, with the reason."""

MODULES_PER_ROOM = 10

PARAMETERS = 6
WITHOUT_OWN_TEST = {
    "__main__": "one call; tests/commands start Raylight as users do",
    "pipeline.command": "two calls; tests/commands train through it",
    "data.scan.with_ray": "data/decode/test_with_ray.py: one session of Ray is enough",
    "training.distributed.ray_worker": "runs in Ray's processes; test_launch trains, stops and kills them",
}
"""Modules that are tested elsewhere, with the reason and the place."""

DOCUMENTED = ("api", "data", "evaluation", "models", "training")
"""Rooms whose public functions say what they take and return; ruff's pydoclint rules hold what they raise."""


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(SRC).with_suffix("").parts)


def test_every_file_is_short_enough_to_be_one_story() -> None:
    lengths = {name_of(file): len(file.read_text().splitlines()) for file in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > LINES and name not in LONGER} == {}


def parameters(file: Path) -> dict[str, int]:
    """The number of parameters of each function and method, without ``self``."""
    counts = {}
    for scope in ast.walk(ast.parse(file.read_text())):
        if isinstance(scope, ast.Module | ast.ClassDef):
            path = [name_of(file), scope.name] if isinstance(scope, ast.ClassDef) else [name_of(file)]
            for function in (node for node in scope.body if isinstance(node, ast.FunctionDef)):
                names = [each.arg for each in (*function.args.args, *function.args.kwonlyargs)]
                counts[".".join([*path, function.name])] = len(names) - (names[:1] in (["self"], ["cls"]))
    return counts


def test_no_function_takes_more_than_six_parameters() -> None:
    """More belong into a value with a name."""
    assert [name for file in FILES for name, count in parameters(file).items() if count > PARAMETERS] == []


def public_functions(file: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The path of the class, empty outside of one, and the function; for each public function and method."""
    scopes: list[tuple[str, ast.Module | ast.ClassDef]] = [("", ast.parse(file.read_text()))]
    for path, scope in scopes:
        for node in scope.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                scopes.append((f"{path}.{node.name}".lstrip("."), node))
            elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield path, node


def overrides(module: str, path: str, name: str) -> bool:
    """Whether a method takes the place of one of a base class, whose documentation then holds."""
    if not path:
        return False
    owner = operator.attrgetter(path)(importlib.import_module(f"raylight.{module}"))
    return any(hasattr(base, name) for base in owner.__mro__[1:])


def in_rooms(rooms: Sequence[str]) -> list[Path]:
    return [file for file in FILES if name_of(file).split(".")[0] in rooms]


@pytest.mark.parametrize("file", in_rooms(DOCUMENTED), ids=name_of)
def test_public_functions_document_what_they_take_and_return(file: Path) -> None:
    lacking = []
    for path, function in public_functions(file):
        arguments = function.args
        listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        names = [each.arg for each in listed if each is not None and each.arg not in ("self", "cls")]
        doc = ast.get_docstring(function) or ""
        described = re.search(r"^Args:\n((?:[ \n].*\n?)+)", doc, re.MULTILINE)
        missing = [name for name in names if not described or f"\n    {name}: " not in f"\n{described[1]}"]
        nothing = function.returns is None or ast.unparse(function.returns) == "None"
        if not nothing and not re.search(r"^(Returns|Yields):$", doc, re.MULTILINE):
            missing.append("Returns")
        if len(names) > 1 and missing and not overrides(name_of(file), path, function.name):
            lacking.append(f"{path}.{function.name}: {', '.join(missing)}")
    assert lacking == []


def test_process_wide_state_is_changed_in_one_place() -> None:
    """``process.py`` says what is changed and puts it back; elsewhere it would be forgotten."""
    changes = re.compile(
        r"os\.environ(\[[^]]+\] = |\.(update|setdefault|pop|clear)\()|os\.(putenv|umask|chdir|nice)\(|set_num_threads\("
        r"|set_num_interop_threads\(|set_flush_denormal\(|setdefaulttimeout\(|tempfile\.tempdir = "
    )
    found = {name_of(file) for file in FILES if changes.search(file.read_text())}
    assert found == {"process"}


def test_every_room_has_at_most_ten_modules() -> None:
    counts = {name_of(room): sum(file.name != "__init__.py" for file in room.glob("*.py")) for room in ROOMS}
    assert {room: count for room, count in counts.items() if count > MODULES_PER_ROOM} == {}


def test_the_tree_in_the_readme_is_the_tree_on_disk() -> None:
    """Every room is named below its parent, every file of the package's own folder too, and nothing else."""
    assert README_TREE is not None
    named, parents = set(), {0: Path()}
    for line in README_TREE[0].splitlines():
        indent = len(line) - len(line.lstrip())
        for name in line[: line.find("  ", indent)].split():
            place = parents[max(depth for depth in parents if depth <= indent)] / name
            named.add(place.as_posix() + ("/" if name.endswith("/") else ""))
        parents = {depth: parent for depth, parent in parents.items() if depth <= indent} | {indent + 2: place}
    package = {f"{room.relative_to(ROOT).as_posix()}/" for room in ROOMS}
    package |= {f"src/raylight/{file.name}" for file in SRC.glob("*.py") if not file.name.startswith("__")}
    plugins = {f"src/hydra_plugins/{folder.name}/" for folder in (ROOT / "src/hydra_plugins").glob("raylight_*")}
    assert {place for place in named if place.startswith("src/raylight/")} == package
    assert all((ROOT / place).exists() for place in named)
    assert {place for place in named if place.startswith("src/hydra_plugins/raylight_")} <= plugins


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_the_modules_that_docstrings_name_are_there(file: Path) -> None:
    """What a module leaves out is said to be in another: by name within its room, by room and name elsewhere."""
    here = file.relative_to(SRC).parent.parts
    rooms = [".".join((*here[:depth], "")) for depth in range(len(here) + 1)]
    text = file.read_text()
    module_doc = ast.get_docstring(ast.parse(text)) or ""
    elsewhere = re.findall(r"(?:Leaves out|Not here)(?:.+\n?)+", module_doc)
    named = {name for part in elsewhere for name in re.findall(r"``(?!hydra_plugins)([a-z_]+(?:\.[a-z_]+)*)``", part)}
    assert {name for name in named if not any(room + name in MODULES for room in rooms)} == set()
    for name in re.findall(r":(?:mod|func|class|data):`~?raylight\.([\w.]+)`", text):
        module, _, attribute = name.rpartition(".")
        path = SRC.joinpath(*module.split(".")).with_suffix(".py")
        defined = path.is_file() and re.search(rf"^(?:def |class )?{attribute}\b", path.read_text(), re.MULTILINE)
        assert name in MODULES or defined, name


def test_every_module_has_a_test_file_of_its_name() -> None:
    modules = {name_of(file) for file in FILES if file.name != "__init__.py"}
    tested = {
        ".".join((*file.relative_to(ROOT / "tests").parent.parts, file.stem.removeprefix("test_")))
        for file in (ROOT / "tests").rglob("test_*.py")
    }
    assert modules - tested - set(WITHOUT_OWN_TEST) == set()
    assert set(WITHOUT_OWN_TEST) <= modules - tested, "an exception that has a test file, or is gone"
