"""The page: a finished run's `report.html`, one file that opens offline."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from cxrjax.report import figures, summary, templates
from cxrjax.report import tables as papers
from cxrjax.report.draw.png import NOTICE
from cxrjax.report.draw.style import color_of
from cxrjax.report.read.workdir import Run, is_number, read_run
from cxrjax.report.synthesis import films
from cxrjax.report.treatment import strips
from cxrjax.report.treatment.strips import DIFFERENCE_SPAN, data_uri


def write(workdir: Path) -> Path:
    """Writes `figures/*.png`, the shown films as `films/*.png`, and `report.html` into a finished run's workdir.

    The page holds everything inline and loads nothing: it opens from a disk without a network. What the run does not
    have is left out. Where a GAN left films for a blinded reading, that is a page of its own, `blinded.html`.

    Returns:
      The path of `report.html`.

    Raises:
      UserError: no manifest.json, or a file that cannot be read.
    """
    run = read_run(Path(workdir))
    drawn = figures.save_all(run, run.workdir / "figures")
    strips.export(run, run.workdir / "films")
    reading = films.write_blinded(run)
    page = run.workdir / "report.html"
    page.write_text(_render(run, drawn, reading), encoding="utf-8")
    return page


def _render(run: Run, drawn: dict[str, Path], reading: Path | None) -> str:
    environment = templates.environment()
    environment.filters.update(
        number=summary.number,
        value=summary.value,
        interval=summary.interval,
        pretty=summary.pretty,
        plain=plain,
        exact=exact,
    )
    built, tables = strips.build(run), papers.tables(run)
    treated, residuals = bool(run.treated), "anomaly" in drawn
    made = any(figures.FIGURES[name].generated for name in drawn if name not in ("strips", "anomaly"))
    return environment.get_template("page.html.j2").render(
        run=run,
        manifest=run.manifest,
        notice=NOTICE,
        treated=treated,
        made=made,
        residuals=residuals,
        synthetic=treated or made or residuals,
        reading=reading.name if reading else None,
        warnings=[*map(str, _listed(run.manifest.get("warnings"))), *run.notes],
        headline=papers.headline(run) or summary.headline(run),
        tables=tables,
        key_numbers=summary.key_numbers(run),
        equal_rates=[] if tables else summary.equal_rates(run),  # a ranking among the tables says it better
        groups=summary.grouped(run),
        strips=built,
        colors={mode: color_of(mode, run.modes()) for mode in run.modes()},
        judges=run.judges(),
        span=DIFFERENCE_SPAN,
        figures={name: data_uri(path.read_bytes()) for name, path in drawn.items()},
        widths={name: _shown_width(path, figures.FIGURES[name].dpi) for name, path in drawn.items()},
        first_figures=figures.FIRST,
        result_figures=figures.RESULTS,
        captions={name: plot.caption for name, plot in figures.FIGURES.items()},
        titles={name: plot.title for name, plot in figures.FIGURES.items()},
        films_shown=built is not None or made or any(name in drawn for name in ("maps", "enh", "anomaly")),
        choices=choices(run.manifest.get("choices")),
        facts=facts(run.manifest),
        config=flat(run.manifest.get("config") or {}),
        rest=json.dumps(run.manifest, indent=1, ensure_ascii=False, default=str),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        css=Markup((templates.HERE / "page.css").read_text(encoding="utf-8")),
        js=Markup((templates.HERE / "page.js").read_text(encoding="utf-8")),
    )


def _shown_width(path: Path, dpi: int) -> int:
    """The width on the page, in CSS pixels, at which a figure's text is as large as the page's small print."""
    with Image.open(path) as picture:
        return round(105 * picture.width / dpi)


def plain(value: Any) -> str:
    """A manifest's value as text: strings as they are, lists and dicts as compact JSON, None as a dash."""
    if value is None:
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


def choices(tree: Any) -> list[tuple[str, str, str, str]]:
    """The choices that the papers left open, as rows (key, value, alternatives, source)."""
    rows = []
    for key, choice in tree.items() if isinstance(tree, dict) else []:
        if isinstance(choice, dict):
            others = choice.get("alternatives")
            text = ", ".join(plain(item) for item in others) if isinstance(others, (list, tuple)) else plain(others)
            rows.append((str(key), plain(choice.get("value")), text or summary.DASH, plain(choice.get("source"))))
        else:
            rows.append((str(key), plain(choice), summary.DASH, summary.DASH))
    return rows


def facts(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """What one needs to run it again, as rows: command, commit, devices, versions, data."""
    rows = [(key, plain(manifest[key])) for key in ("command", "started", "finished", "commit") if manifest.get(key)]
    if manifest.get("devices"):
        rows.append(("devices", ", ".join(plain(device) for device in _listed(manifest["devices"]))))
    if isinstance(manifest.get("versions"), dict):
        rows.append(("versions", ", ".join(f"{name} {plain(v)}" for name, v in manifest["versions"].items())))
    rows += [(f"data: {key}", plain(value)) for key, value in flat(manifest.get("data") or {})]
    return rows


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
