"""The shape of the code, read with `ast`: which room imports which, what a room may not touch, how long a file may be.

The rules are functions from source text to a list of complaints; `test_architecture` applies each to the whole tree,
and tries it on text that breaks it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS: tuple[str, ...] = ("types", "errors", "files", "stop", "console", "defaults", "ops", "metrics", "data", "nn")
ROOMS += ("models", "weights", "train", "tasks", "infer", "phases", "studies", "report", "manifest", "run")
FROM_ANYWHERE = {"types", "errors"}
# (folder, folders that it may not import), beside the order of rooms.
APART = (
    ("cxrjax.studies.classification", ("cxrjax.studies.synthesis", "cxrjax.studies.treatment")),
    ("cxrjax.studies.synthesis", ("cxrjax.studies.treatment",)),
    ("cxrjax.studies.treatment", ("cxrjax.studies.synthesis",)),
)
SLOW = ("jax", "jaxlib", "flax", "optax", "orbax", "clu")
LONGEST = 350
DRAWERS = {"utils", "util", "helpers", "misc", "common"}
GONE_OR_PRIVATE = (
    "jax._src",
    "optax._src",
    "flax.training.checkpoints",
    "flax.jax_utils",
    "jax.experimental.maps",
    "tensorflow",
)
DISK_MODULES = ("pathlib", "os", "io", "shutil", "tempfile", "glob", "subprocess", "cv2", "PIL")
DISK_CALLS = {"open", "numpy.load", "numpy.save", "numpy.savez", "jax.numpy.load", "jax.numpy.save"}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """`cxrjax.ops.cam`; a package keeps its `__init__`, so that relative imports count from the right place."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Each imported dotted name with its line, relative ones resolved; `from a import b` yields `a.b`.

    Sees imports inside functions and under TYPE_CHECKING, and `import_module("a.b")`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def later(source: str) -> set[int]:
    """The lines that importing the module does not run: those of functions, and what only a type checker reads."""
    nodes = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    ]
    return {line for node in nodes for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def uses(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Each import and each dotted use of an imported name, written out in full: `np.load` as `numpy.load`."""
    tree = ast.parse(source)
    full: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                full[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    yield from imports(module, source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            head, dot, tail = ast.unparse(node).partition(".")
            if head.isidentifier() and (head in full or not dot):
                yield node.lineno, full.get(head, head) + dot + tail


def wrong_rooms(module: str, source: str) -> list[str]:
    """A module of cxrjax imports from its own room and from those before it; the package's face, inside functions."""
    own = module.split(".")[1]
    if own not in {*ROOMS, "__init__"}:
        return [f"{module}: {own} is no room; the rooms are {', '.join(ROOMS)}"]
    # The package's own __init__ and the types and errors are read by everyone, so they may read no room.
    reach = ROOMS.index(own) if own in ROOMS else 0
    lazy = later(source) if own == "__init__" else set()
    complaints = []
    for line, name in imports(module, source):
        if not below(name, "cxrjax") or line in lazy:
            continue
        room = name.split(".")[1] if "." in name else ""
        if room in FROM_ANYWHERE or room == own or (room in ROOMS and ROOMS.index(room) <= reach):
            continue
        if room not in ROOMS and room.startswith("__"):  # cxrjax.__version__
            continue
        complaints.append(f"{module}:{line} imports {name}, but {own} may only reach {', '.join(ROOMS[: reach + 1])}")
    return complaints


def mixed_studies(module: str, source: str) -> list[str]:
    """Studies share what lies below them, and not each other."""
    return [
        f"{module}:{line} imports {name}, which {folder} may not"
        for folder, others in APART
        if below(module, folder)
        for line, name in imports(module, source)
        if any(below(name, other) for other in others)
    ]


def graph(sources: dict[str, str]) -> dict[str, list[str]]:
    """By module the modules that importing it imports: `from a import b` is a.b where there is such a module."""
    packages = {name.removesuffix(".__init__"): name for name in sources}
    out = {}
    for module, source in sources.items():
        skip = later(source)
        names = [name for line, name in imports(module, source) if line not in skip]
        places = {packages.get(name) or packages.get(name.rpartition(".")[0]) for name in names}
        out[module] = sorted(place for place in places if place and place != module)
    return out


def circles(edges: dict[str, list[str]]) -> list[str]:
    """The circles of a graph of imports, each told once, by the shortest way around from its first module."""
    complaints, seen = [], set()
    for start in sorted(edges):
        ways, found = [[start]], {start}
        while ways and start not in seen:
            way = ways.pop(0)
            for place in edges[way[-1]]:
                if place == start:
                    complaints.append(" -> ".join([*way, start]))
                    seen |= {*way}
                    ways = []
                    break
                if place not in found:
                    found.add(place)
                    ways.append([*way, place])
    return complaints


def slow_imports(room: str, sources: dict[str, str]) -> list[str]:
    """Every way, through the modules of `sources`, on which importing a module of `room` imports jax."""
    edges, complaints = graph(sources), []
    ways, found = [[m] for m in sorted(sources) if below(m, room)], {m for m in sources if below(m, room)}
    while ways:
        way = ways.pop(0)
        skip = later(sources[way[-1]])
        names = [name for line, name in imports(way[-1], sources[way[-1]]) if line not in skip]
        if slow := next((name for name in names if any(below(name, package) for package in SLOW)), ""):
            complaints.append(f"{' -> '.join(way)} imports {slow}")
        # A package's face runs before any module in it.
        faces = [f"{place.rpartition('.')[0]}.__init__" for place in edges[way[-1]]]
        for place in [*faces, *edges[way[-1]]]:
            if place in sources and place not in found:
                found.add(place)
                ways.append([*way, place])
    return complaints


def long_files(module: str, source: str) -> list[str]:
    """No file over `LONGEST` lines, and none named for being a drawer."""
    count, stem = len(source.splitlines()), module.rpartition(".")[2]
    out = [f"{module} has {count} lines; at most {LONGEST}"] if count > LONGEST else []
    return [*out, *([f"{module}: {stem} says nothing of what is inside"] if stem in DRAWERS else [])]


def forbidden_imports(module: str, source: str, allowed: tuple[str, ...]) -> list[str]:
    return [
        f"{module}:{line} imports {name}; allowed: {', '.join(allowed)}"
        for line, name in imports(module, source)
        if not any(below(name, package) for package in allowed)
    ]


def impure_ops(module: str, source: str) -> list[str]:
    """`ops` is array maths: no flax, no disk."""
    bad = [
        (line, name)
        for line, name in uses(module, source)
        if any(below(name, package) for package in ("flax", *DISK_MODULES)) or name in DISK_CALLS
    ]
    return [f"{module}:{line} uses {name}; ops has no flax and no I/O" for line, name in sorted(set(bad))]


def private_apis(module: str, source: str) -> list[str]:
    bad = {
        (line, name) for line, name in uses(module, source) if any(below(name, package) for package in GONE_OR_PRIVATE)
    }
    return [f"{module}:{line} uses {name}, which is private, gone or unwanted" for line, name in sorted(bad)]


def star_imports(module: str, source: str) -> list[str]:
    return [f"{module}:{line} imports {name}" for line, name in imports(module, source) if name.endswith(".*")]


def early_imports(module: str, source: str) -> list[str]:
    """The launcher's files import jax and cxrjax inside a function, after the checks, or not at all."""
    inside, slow = later(source), ("cxrjax", "numpy", *SLOW)
    return [
        f"{module}:{line} imports {name} before the command line is checked"
        for line, name in imports(module, source)
        if line not in inside and any(below(name, package) for package in slow)
    ]


CODE = ("cxrjax", "configs", "launch")


def read(path: Path) -> tuple[str, str]:
    return module_name(path), path.read_text(encoding="utf-8")


def complaints(rule: Callable[[str, str], list[str]], *folders: str) -> list[str]:
    """Of every file of some folders, of which there must be some."""
    paths = python_files(*folders)
    assert paths
    return [complaint for path in paths for complaint in rule(*read(path))]
