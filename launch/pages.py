"""The two pages that the launcher prints instead of running: `--help` and `--dry_run`."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

USAGE = """\
usage: python launch/main.py --config=FILE.py[:VARIANT] [--workdir=DIR] [--config.KEY=VALUE ...]

  --config=FILE.py[:VARIANT]  the config, one file a paper; a variant edits its default
  --config.KEY=VALUE          overrides one value, e.g. --config.seed=1; the last of two wins
                              tuples are quoted: --config.KEY="(64, 64)"
  --workdir=DIR               where the run writes; default runs/NAME[-VARIANT]
                              the same command with the same workdir resumes
  --dry_run                   prints every key with its value and its choices, and stops
  --help                      prints this page

exit codes: 0 done, 2 a mistake to mend (told on stderr), 75 preempted: run the same command again
"""


def describe(path: Path) -> tuple[str, tuple[str, ...]]:
    """A config file's first docstring line and its variants, read without importing it."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        return f"(unreadable: {error})", ()
    variants: tuple[str, ...] = ()
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "VARIANTS" for target in targets):
            try:
                variants = tuple(ast.literal_eval(node.value))  # type: ignore[attr-defined]
            except (ValueError, TypeError):
                variants = ("(computed: see the file)",)
    lines = (ast.get_docstring(tree) or "(no docstring)").splitlines()
    return lines[0], variants


def usage(configs: Path) -> str:
    """The help page: the flags, then each config file of the folder with its first line and its variants."""
    lines = [USAGE, "configs:"]
    for path in sorted(configs.glob("*.py")):
        if path.name.startswith("_"):
            continue
        summary, variants = describe(path)
        lines.append(f"  {configs.name}/{path.name}  {summary}")
        if variants:
            lines.append(f"      variants: {', '.join(variants)}")
    if len(lines) == 2:
        lines.append(f"  (none in {configs})")
    return "\n".join(lines)


def resolved(
    name: str,
    leaves: Mapping[str, Any],
    choices: Mapping[str, tuple[tuple[Any, ...], str]],
    overridden: Collection[str],
) -> str:
    """The dry-run page: every key with its value, then the choices with their alternatives and sources."""
    lines = [f"{name}: resolved config (dry run, nothing written)"]
    for key, value in leaves.items():
        lines.append(f"  {key} = {value!r}{'  (set on the command line)' if key in overridden else ''}")
    if choices:
        lines.append("choices:")
    for key, (alternatives, source) in choices.items():
        shown = ", ".join("..." if alternative is ... else str(alternative) for alternative in alternatives)
        lines.append(f"  {key} = {leaves[key]!r}  of: {shown}  ({source})")
    return "\n".join(lines)
