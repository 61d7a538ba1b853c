"""House rules that no single module can keep: imports, file size, docstrings, the wheel."""

import ast
import dataclasses
import functools
import graphlib
import importlib
import inspect
import pkgutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import devices
from devices import Part

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("devices", "crossbar", "experiments")  # a floor imports itself and those before it
CORE = ("devices", "crossbar")
CORE_DEPENDENCIES = {"torch", "numpy", "scipy"}
# an extra may be imported where its compiled loops are
COMPILED = ("devices/update/jit.py", "crossbar/pulses/jit.py", "crossbar/ledger/jit.py")
OPTIONAL = {path: {"numba"} for path in COMPILED} | {"crossbar/spiking/interchange.py": {"nir"}}
MAX_LINES = 400

# The rooms of a floor, lowest first: a module uses its own room and those before it.
ROOMS = {
    "devices": (
        *("_check", "draw", "trees", "blocks", "curve", "electrical"),
        "part",
        *("update", "write", "read", "retention", "iv", "faults"),
        "technology",  # parts of several kinds
        "device",
        *("verify", "_drawn", "_own", "testing"),
        *("presets", "fitting"),
    ),
    "crossbar": (
        *("host", "streams", "quantise", "handles"),
        *("regions", "windows", "directions", "operations", "stacks"),
        *("layout", "mappings"),
        *("ranges", "converters", "port"),
        "wires",
        *("pulses", "spares", "chip"),
        *("planes", "states", "curves", "held", "placing", "programming", "cells", "compact"),
        *("probe", "currents"),
        *("read", "uses"),  # uses: the autograd function
        *("solve", "transposed", "readable", "told", "matrix", "complexes", "arrays", "together"),
        *("rules", "equilibrium", "feedback"),
        *("modifiers", "modes", "identity"),
        *("spelling", "tape", "drawn", "floating"),
        *("shown", "placed", "weight"),
        "carried",
        *("nn", "optim", "extended"),
        *("watching", "receipt"),
        *("model", "conversion", "probes", "tally", "maps", "spice", "compensation", "drift"),
        *("clipping", "schedules", "distillation", "spiking", "peers"),
        *("costs", "ledger"),
    ),
    "experiments": ("lab", "tasks", "studies", "examples", "__main__"),
}


def sources(floor: str) -> list[Path]:
    return sorted((ROOT / floor).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for floor in FLOORS for path in sources(floor)}


def imports(tree: ast.AST, path: Path) -> set[str]:
    """Every name imported anywhere in the tree of that file, relative imports resolved.

    `from a import b` gives `a.b` where that is a module of ours, `a` otherwise.
    """
    names: set[str] = set()
    package = module_name(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*home, node.module] if node.module else home)
            members = {f"{base}.{alias.name}" for alias in node.names}
            names |= {member if member in MODULES else base for member in members}
    return names


@functools.cache
def imported_by(path: Path) -> set[str]:
    return imports(ast.parse(path.read_text()), path)


def test_the_rules_look_at_every_floor() -> None:
    assert set(FLOORS) <= set(MODULES)
    assert "crossbar.mappings" in imported_by(ROOT / "crossbar" / "chip.py")


@pytest.mark.parametrize("floor", FLOORS)
def test_no_floor_imports_a_higher_one(floor: str) -> None:
    higher = set(FLOORS[FLOORS.index(floor) + 1 :]) | {"tests", "benchmarks"}
    climbs = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(floor)
        for name in imported_by(path)
        if name.split(".")[0] in higher
    }
    assert not climbs


@pytest.mark.parametrize("floor", CORE)
def test_core_needs_torch_numpy_and_scipy_only(floor: str) -> None:
    allowed = CORE_DEPENDENCIES | set(CORE) | set(sys.stdlib_module_names)
    strangers = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(floor)
        for name in imported_by(path)
        if name.split(".")[0] not in allowed | OPTIONAL.get(str(path.relative_to(ROOT)), set())
    }
    assert not strangers


@pytest.mark.parametrize("floor", CORE)
def test_no_import_hides_inside_a_function(floor: str) -> None:
    hidden = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(floor)
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not hidden


@pytest.mark.parametrize("floor", ROOMS)
def test_no_room_uses_a_higher_one(floor: str) -> None:
    level = {name: n for n, name in enumerate(ROOMS[floor])}
    rooms = {name for module in MODULES if (name := room_of(floor, module))}
    assert rooms == set(level), f"every module of {floor} has its room in ROOMS"
    climbs = {
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in imported_by(path)
        if (here := room_of(floor, module)) and (there := room_of(floor, other))
        if level[there] > level[here]
    }
    assert not climbs


def test_no_study_uses_another() -> None:
    studies = "experiments.studies"
    crossing = {
        f"{module} imports {other}"
        for module, path in MODULES.items()
        if module.startswith(f"{studies}.")
        for other in imported_by(path)
        if other.startswith(f"{studies}.") and other.split(".")[2] != module.split(".")[2]
    }
    assert not crossing


def room_of(floor: str, module: str) -> str | None:
    first, *rest = module.split(".")
    return rest[0] if first == floor and rest else None


class WithoutTypes(ast.NodeTransformer):
    """Drops what is imported for annotations only: it has no order, so it makes no circle."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return node.orelse
        return self.generic_visit(node)


def test_no_circles() -> None:
    graph = {}
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text())
        if not name.startswith("experiments"):  # where even annotations make no circle
            tree = WithoutTypes().visit(tree)
        graph[name] = {other for other in imports(tree, path) if other in MODULES} - {name}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("floor", FLOORS)
def test_a_file_is_read_in_one_sitting(floor: str) -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in sources(floor)}
    assert not {name: n for name, n in lengths.items() if n > MAX_LINES}


@pytest.mark.parametrize("floor", CORE)
def test_public_names_are_documented(floor: str) -> None:
    package = importlib.import_module(floor)
    public = {
        name: value
        for name, value in vars(package).items()
        if not name.startswith("_") and (inspect.isclass(value) or inspect.isroutine(value))
    }
    assert public

    def undocumented(value: object) -> bool:
        # vars(): a class does not inherit its base's docstring; a dataclass's generated one,
        # which repeats the signature, says nothing
        doc = vars(value).get("__doc__") if inspect.isclass(value) else inspect.getdoc(value)
        return not doc or doc.startswith(f"{getattr(value, '__name__', '')}(")

    assert not [name for name, value in public.items() if undocumented(value)]


def concrete_parts() -> list[type[Part]]:
    for info in pkgutil.walk_packages(devices.__path__, "devices."):
        importlib.import_module(info.name)

    def below(cls: type[Part]) -> Iterator[type[Part]]:
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    return sorted(
        {part for part in below(Part) if is_ours(part)}, key=lambda part: part.__qualname__
    )


def is_ours(part: type[Part]) -> bool:
    # not a test's own part, nor a base with verbs still to fill in
    public = not part.__name__.startswith("_") and not inspect.isabstract(part)
    return public and part.__module__.startswith("devices.")


@pytest.mark.parametrize("part", concrete_parts())
def test_every_part_is_frozen_and_names_its_source(part: type[Part]) -> None:
    assert dataclasses.is_dataclass(part)
    assert part.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "Source:" in (vars(part).get("__doc__") or "")


@pytest.mark.slow
def test_the_wheel_ships_every_file_of_the_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("analog_crossbar-*-py3-none-any.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", *FLOORS], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert set(tracked.stdout.split()) <= shipped
    assert {f"{floor}/py.typed" for floor in FLOORS} <= shipped
    assert not {name for name in shipped if name.startswith(("tests", "benchmarks"))}


LONGEST = 40
"""Lines of a rule, signatures and docstrings apart: what it is read for fits on a page."""


def test_a_rule_is_read_in_one_look() -> None:
    declared = {"__post_init__", "slots", "reads", "work", "fabricate", "check", "gains", "cost"}
    found = {}
    for path in (ROOT / "crossbar" / "rules").glob("*.py"):
        for rule in ast.parse(path.read_text()).body:
            if not isinstance(rule, ast.ClassDef) or not rule.bases or rule.name == "Rule":
                continue
            verbs = [f for f in rule.body if isinstance(f, ast.FunctionDef)]
            lines = [
                n
                for verb in verbs
                if verb.name not in declared
                for part in verb.body[ast.get_docstring(verb) is not None :]
                for n in range(part.lineno, (part.end_lineno or part.lineno) + 1)
            ]
            found[rule.name] = len(lines)
    assert {"TikiTaka", "AGAD", "MixedPrecision", "Residual"} <= set(found)
    assert not {name: n for name, n in found.items() if n > LONGEST}
