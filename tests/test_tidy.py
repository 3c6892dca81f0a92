"""The rules of this house, so that nobody has to remember them: sizes, docstrings, honest tests, no dead weight.

Each test collects every place that breaks its rule and shows them all. What may import what is the import linter's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar, get_args

import msgspec
import pytest

from headway.core.events import AnyEvent

ROOT = Path(__file__).parents[1]
CODE = ("core", "projections", "runners", "deploy", "cli", "web", "headway")
FOLDERS = (*CODE, "bench", "tests")
TEXTS = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".cfg", ".txt", ""}
NOT_OURS = {".git", ".venv", "build", "dist", "node_modules", "histories"}

FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 50, 6
Function = ast.FunctionDef | ast.AsyncFunctionDef
N = TypeVar("N", bound=ast.AST)

# In two pieces, so that this file does not break its own rules.
LEFT_TO_DO = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
MOCKS = re.compile(
    r"\b(?:unittest\." + r"mock|Magic" + r"Mock|Async" + r"Mock|monkey" + r"patch\.(?!setenv|delenv|chdir))"
)
MACHINES = ["/ho" + "me/", "/ro" + "ot/", "/Us" + "ers/"]
REGISTRIES = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.", "deb." + "debian.org", "reg" + "istry."]


@cache
def sources() -> dict[str, str]:
    """Every Python file of ours, by its path from the top."""
    return {name: text for name, text in texts().items() if name.endswith(".py") and name.split("/")[0] in FOLDERS}


@cache
def texts() -> dict[str, str]:
    """Every text file of ours, by its path from the top; links to folders are not followed."""
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in _files(ROOT)}


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.name != ".ci"
        if path.is_symlink() or hidden or path.name in NOT_OURS or path.name.endswith((".egg-info", "__pycache__")):
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.suffix in TEXTS and b"\0" not in path.read_bytes()[:1024]:
            yield path


@cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(text, name) for name, text in sources().items()}


def nodes(*kinds: type[N], of: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, N]]:
    """All nodes of some kinds in the files wanted, each with the place to look at."""
    for name, tree in trees().items():
        if of(name):
            for node in ast.walk(tree):
                if isinstance(node, kinds):
                    yield f"{name}:{getattr(node, 'lineno', 0)}", node


def in_tests(name: str) -> bool:
    return name.startswith("tests/")


def in_code(name: str) -> bool:
    return name.split("/")[0] in CODE


def called(node: ast.AST) -> str:
    """What a call calls, as it is written."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def hold(broken: Iterable[str]) -> None:
    """Fail with every place that breaks the rule, one a line."""
    places = list(broken)
    assert not places, "\n  ".join(["", *places])


# Sizes


def test_files_are_short() -> None:
    """A file has one job, and fits in one reading."""
    hold(f"{name}: {text.count(chr(10))}" for name, text in sources().items() if text.count("\n") > FILE_LINES)


def test_functions_are_short() -> None:
    """A function, without its docstring, fits on a screen."""
    hold(f"{place} {node.name}: {lines_of(node)}" for place, node in functions() if lines_of(node) > FUNCTION_LINES)


def functions() -> Iterator[tuple[str, Function]]:
    """All functions, nested ones too."""
    yield from nodes(ast.FunctionDef)
    yield from nodes(ast.AsyncFunctionDef)


def lines_of(node: Function) -> int:
    """How long a function is, its docstring left out."""
    first = node.body[0]
    told = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) else 0
    return (node.end_lineno or 0) - node.lineno + 1 - told


def test_functions_take_few_parameters() -> None:
    """More than six things to know is a record that wants a name. Tests take fixtures and cases as they need."""
    found = []
    for place, node in functions():
        names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        if len([one for one in names if one not in ("self", "cls")]) > PARAMETERS and not node.name.startswith("test_"):
            found.append(f"{place} {node.name}: {', '.join(names)}")
    hold(found)


# Words


def test_every_module_says_what_it_is() -> None:
    """A file opens with what it is for."""
    hold(name for name, tree in trees().items() if tree.body and not ast.get_docstring(tree))


def test_every_public_class_says_what_it_is() -> None:
    """Events, protocols, errors and all other classes that others use have a docstring."""
    hold(
        f"{place} {node.name}"
        for place, node in nodes(ast.ClassDef)
        if not node.name.startswith("_") and not ast.get_docstring(node)
    )


def test_every_test_says_what_must_hold() -> None:
    """A test's docstring is the sentence that it proves."""
    hold(
        f"{place} {node.name}"
        for place, node in functions()
        if in_tests(place) and node.name.startswith("test_") and not ast.get_docstring(node)
    )


def test_nothing_is_left_to_do() -> None:
    """What is not done is an issue, not a comment."""
    hold(lines_with(LEFT_TO_DO))


def test_nothing_names_a_machine_or_a_registry() -> None:
    """The project is the same wherever it lies, and wherever its packages come from."""
    words = [re.escape(one) for one in (*MACHINES, *REGISTRIES)]
    where = ROOT.parent.as_posix() + "/"
    if where.count("/") > 1 and where != "/tmp/":
        words.append(r"(?<![\w>}\].])" + re.escape(where))
    hold(lines_with(re.compile("|".join(words))))


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Where a pattern occurs in any text of ours."""
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_only_the_renderer_prints() -> None:
    """One file decides what people see; the bench and the tests' own helpers are not the product."""
    hold(
        place
        for place, node in nodes(ast.Call, of=in_code)
        if called(node) == "print" and not place.startswith("cli/render.py:")
    )


# Honest tests


def test_tests_use_no_mocks() -> None:
    """Tests use the real thing, or a fake that obeys the same contract."""
    hold(one for one in lines_with(MOCKS) if in_tests(one))


def test_tests_do_not_sleep() -> None:
    """Tests wait for what they wait for; looking again and again, with a limit, is for outside processes only."""
    allowed = {
        id(inner)
        for place, node in functions()
        if node.name in ("until", "wait_until") and "/test_" not in place
        for inner in ast.walk(node)
    }
    hold(
        f"{place} {ast.unparse(node)}"
        for place, node in nodes(ast.Call, of=in_tests)
        if called(node) in ("time.sleep", "asyncio.sleep", "sleep")
        and ast.unparse(node) != "asyncio.sleep(0)"
        and id(node) not in allowed
    )


# Events


@pytest.mark.parametrize("event", get_args(AnyEvent), ids=lambda event: str(event.__name__))
def test_an_event_is_a_frozen_record_named_as_on_the_wire(event: type[msgspec.Struct]) -> None:
    """`RunAdmitted` is `run.admitted`, cannot be changed, and is made by naming its fields."""
    config = event.__struct_config__
    declared = next(node for _, node in nodes(ast.ClassDef, of="core/events.py".__eq__) if node.name == event.__name__)
    assert {"frozen=True", "kw_only=True"} <= {ast.unparse(one) for one in declared.keywords}
    assert config.frozen
    assert "".join(word.capitalize() for word in re.split(r"[._]", str(config.tag))) == event.__name__
    assert event.__doc__


# Dead weight


def test_no_file_is_a_drawer() -> None:
    """A file is named after what is in it."""
    drawers = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    hold(name for name in sources() if name.rpartition("/")[2] in drawers)


def test_every_file_is_used() -> None:
    """Each code file is imported by another one, or started by name."""
    imported = {name for place, node in nodes(ast.Import, ast.ImportFrom) for name in imports(place, node)}
    said = {str(node.value) for _, node in nodes(ast.Constant, of=in_code)}
    started = " ".join([*said, texts()["pyproject.toml"], texts()["Makefile"]])
    unused = []
    for name in filter(in_code, sources()):
        module = module_of(name)
        by_name = re.search(rf"(?<![\w.]){re.escape(module)}(?![\w.])", started)
        command = name.startswith("cli/commands/") and Path(name).stem.rstrip("_") in said
        if Path(name).stem not in ("__init__", "__main__") and module not in imported and not by_name and not command:
            unused.append(name)
    hold(unused)


def module_of(name: str) -> str:
    """The import name of a file."""
    dotted = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return dotted if dotted.startswith("headway") else f"headway.{dotted}"


def imports(place: str, node: ast.AST) -> Iterator[str]:
    """All modules that an import may mean, other than the file it is in."""
    names: list[str] = []
    match node:
        case ast.Import():
            names = [one.name for one in node.names]
        case ast.ImportFrom(module=str(module)):
            names = [module, *(f"{module}.{one.name}" for one in node.names)]
    own = module_of(place.rpartition(":")[0])
    return (one for one in names if one != own)
