"""A log file learns how far, how fast and how long; a terminal gets the bar and no such lines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from cxrjax.console import on_stdout, progress


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines_of(steps: int, seconds: float, total: int, terminal: bool = False, notes: bool = True) -> list[str]:
    file, clock = io.StringIO(), Clock()
    console = Console(file=file, force_terminal=terminal, width=120 if terminal else 40)
    with progress(console, clock=clock) as bar:
        task_id = bar.add_task("diffusion", total=total, note="")
        for done in range(1, steps + 1):
            clock.now += seconds
            bar.update(task_id, completed=done)
            if notes:
                bar.update(task_id, note=f"loss {1 / done:.3f} of [0, 1]")
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_a_log_file_gets_a_line_each_30_seconds_and_one_at_the_end() -> None:
    lines = lines_of(steps=250, seconds=0.5, total=500)
    assert len(lines) == 125 // 30 + 1
    assert lines[0].startswith("diffusion 60/500, 2.0/s, 4 min left, loss")
    assert lines[-1] == "diffusion 250/500, 2.0/s, 2 min left, loss 0.004 of [0, 1]"  # on one line, brackets and all


def test_slow_steps_are_given_in_seconds_each() -> None:
    lines = lines_of(steps=3, seconds=40.0, total=3, notes=False)
    assert lines == ["diffusion 1/3", "diffusion 2/3, 40.0 s each, 40 s left", "diffusion 3/3, 40.0 s each"]


def test_steps_that_are_sent_in_bursts_do_not_look_fast() -> None:
    file, clock = io.StringIO(), Clock()
    with progress(Console(file=file, width=80), clock=clock) as bar:
        task_id = bar.add_task("fcn", total=400, note="")
        for done in range(1, 101):
            clock.now += 0.01 if done % 20 else 136.0  # the host waits for the device once a log window
            bar.update(task_id, completed=done)
    assert file.getvalue().splitlines()[-1].startswith("fcn 100/400, 6.8 s each, 34 min left")


def test_what_is_tracked_is_counted_in_a_log_file_too() -> None:
    file, clock = io.StringIO(), Clock()
    with progress(Console(file=file, width=80), clock=clock) as bar:
        task_id = bar.add_task("reading films", total=3, note="")
        for _ in bar.track(iter("abc"), task_id=task_id):
            clock.now += 40.0
    lines = file.getvalue().splitlines()
    assert lines == ["reading films 1/3", "reading films 2/3, 40.0 s each, 40 s left", "reading films 3/3, 40.0 s each"]


def test_what_is_quick_gets_one_line() -> None:
    assert lines_of(steps=5, seconds=0.1, total=5, notes=False) == ["diffusion 5/5, 10.0/s"]


def test_a_brief_bar_is_silent_for_30_seconds_and_then_like_any_other() -> None:
    def said(seconds: float) -> list[str]:
        file, clock = io.StringIO(), Clock()
        with progress(Console(file=file, width=80), brief=True, clock=clock) as bar:
            task_id = bar.add_task("test films", total=3, note="")
            for done in (1, 2, 3):
                clock.now += seconds
                bar.update(task_id, completed=done)
        return file.getvalue().splitlines()

    assert said(0.1) == []
    assert said(20.0) == ["test films 2/3, 20.0 s each, 20 s left", "test films 3/3, 20.0 s each"]


@pytest.mark.parametrize(
    ("left", "words"), [(89, "89 s left"), (90, "2 min left"), (5399, "90 min left"), (7200, "2 h left")]
)
def test_time_left_is_told_in_a_unit_of_its_size(left: int, words: str) -> None:
    assert f", {words}" in lines_of(steps=40, seconds=1.0, total=40 + left, notes=False)[-1]


def test_a_terminal_gets_the_bar_and_no_lines() -> None:
    lines = lines_of(steps=250, seconds=0.5, total=500, terminal=True)
    assert not any("left" in line for line in lines)
    assert any("250/500" in line and "2.0/s" in line for line in lines)


def test_a_log_file_has_room_for_the_words_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    head = ("accuracy", "macro precision", "macro recall", "macro F1", "AUROC", "AUPRC", "AUROC minus logreg32, paired")
    table = Table("", *head)
    table.add_row("logreg32 (floor)", *["0.667 [−0.125, 1.000]"] * len(head))
    on_stdout().print(table)
    assert set(" ".join(head).split()) <= set(capsys.readouterr().out.split())
