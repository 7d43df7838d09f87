"""The page: a finished run's `report.html`, one file that opens offline."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cxrjax.report import checklist, faces, figures, summary, tables, templates
from cxrjax.report.draw.png import NOTICE
from cxrjax.report.face import CAUTION
from cxrjax.report.read.workdir import Run, is_number


def write(workdir: Path) -> Path:
    """Writes `figures/*.png`, what the study's face adds, `checklist.html` and `report.html` into a finished workdir.

    The page holds everything inline and loads nothing: it opens from a disk without a network. What the run does not
    have is left out.

    Returns:
      The path of `report.html`.

    Raises:
      UserError: no manifest.json, or a file that cannot be read.
    """
    face, run = faces.read(Path(workdir))
    environment = templates.environment()
    environment.filters.update(
        number=summary.number, value=summary.value, interval=summary.interval, plain=plain, exact=exact
    )
    listed = tables.tables(run)
    pictures = figures.save_all(run, face, run.workdir / "figures")
    generated = any(picture.plot.generated for picture in pictures)
    text = environment.get_template(face.template).render(
        **{"colors": {}, **face.beside(run)},
        run=run,
        notice=NOTICE,
        generated=generated,
        notices=face.notices if generated else (CAUTION,),
        films_shown=generated or any(picture.plot.films for picture in pictures),
        warnings=[*(run.manifest.get("warnings") or ()), *run.notes],
        headline=run.results.get("headline") or face.headline(run),
        tables=listed,
        key_numbers=summary.key_numbers(run) + face.key_numbers(run),
        groups=summary.grouped(run, face.drawn),
        pictures=pictures,
        choices=choices(run.manifest.get("choices") or {}),
        facts=facts(run),
        config=flat(run.config),
        rest=json.dumps(run.manifest, indent=1, ensure_ascii=False, default=str),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    checklist.write(run)
    page = run.workdir / "report.html"
    page.write_text(text, encoding="utf-8")
    return page


def plain(value: Any) -> str:
    """A manifest's value as text: strings as they are, lists and dicts as compact JSON, None and "" as a dash."""
    if value is None or value == "":
        return summary.DASH
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def exact(value: Any) -> str:
    """A result's value with all its digits, or a dash where it is no finite number."""
    if isinstance(value, (int, float)) and not is_number(value):
        return summary.DASH
    return plain(value) if not isinstance(value, float) else repr(value)


def flat(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """A nested config as (dotted key, value) in its own order; an empty dict is kept as a value."""
    if not isinstance(tree, dict) or not tree:
        return [(prefix, tree)] if prefix else []
    return [item for key, below in tree.items() for item in flat(below, f"{prefix}.{key}" if prefix else str(key))]


def choices(tree: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """The choices that the papers left open, as rows (key, value, alternatives, source)."""

    def others(one: dict[str, Any]) -> str:
        words = ["or another" if other == "Ellipsis" else plain(other) for other in one["alternatives"] or ()]
        return ", ".join(words) or summary.DASH

    return [(key, plain(one["value"]), others(one), plain(one["source"])) for key, one in tree.items()]


def facts(run: Run) -> list[tuple[str, str]]:
    """What one needs to run it again, as rows: command, commit, devices, versions, data, where weights began; and where
    its seconds went."""
    manifest = run.manifest
    rows = [(key, plain(manifest[key])) for key in ("command", "started", "finished", "commit") if manifest.get(key)]
    if run.devices:
        rows.append(("devices", run.devices))
    if manifest.get("versions"):
        rows.append(("versions", ", ".join(f"{name} {plain(v)}" for name, v in manifest["versions"].items())))
    for name in ("data", "weights"):
        rows += [(f"{name}: {key}", plain(value)) for key, value in flat(manifest.get(name) or {})]
    if seconds := run.results.get("seconds"):
        names = {"rest": "preparation and studies", "lost": "lost to restarts"}
        rows.append(("seconds", ", ".join(f"{names.get(kind, kind)} {value:,.0f}" for kind, value in seconds.items())))
    return rows
