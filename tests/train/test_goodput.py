"""The seconds of a run add up over its starts, and what a restart does again is lost."""

import json

import jax
import jax.numpy as jnp
import pytest

from cxrjax.errors import UserError
from cxrjax.train import goodput


class Clock:
    def __init__(self):
        self.now = self.compiled = 0.0

    def __call__(self):
        return self.now


def ledger(path, clock):
    return goodput.Goodput(path, None, clock, lambda: clock.compiled)


def spend(clock, found, kind, seconds, compiled=0.0):
    clock.now += seconds + compiled
    clock.compiled += compiled
    found.mark(kind)


def test_what_was_not_saved_before_a_kill_and_the_way_back_are_lost(tmp_path):
    path, clock = tmp_path / "seconds.json", Clock()
    first = ledger(path, clock)
    clock.now += 5
    first.begin()
    spend(clock, first, "read", 1)
    spend(clock, first, "trained", 20, compiled=7)
    spend(clock, first, "saved", 2)
    first.keep()
    spend(clock, first, "trained", 30)
    first.note()
    spend(clock, first, "trained", 4)  # unnoted when the kill comes

    clock = Clock()
    second = ledger(path, clock)
    clock.now += 9
    clock.compiled += 3
    second.begin()
    spend(clock, second, "trained", 40)
    spend(clock, second, "evaluated", 6)
    second.keep()
    clock.now += 8
    second.begin()  # a study
    spend(clock, second, "rest", 11)
    assert second.seconds() == {
        "trained": 60, "compiled": 10, "read": 1, "saved": 2, "evaluated": 6, "rest": 5 + 8 + 11, "lost": 30 + 6
    }  # fmt: skip


def test_a_restart_behind_a_save_loses_only_the_way_back(tmp_path):
    path, clock = tmp_path / "seconds.json", Clock()
    first = ledger(path, clock)
    spend(clock, first, "trained", 20)
    first.keep()
    clock = Clock()
    second = ledger(path, clock)
    clock.now += 4
    second.begin()
    assert {kind: value for kind, value in second.seconds().items() if value} == {"trained": 20, "lost": 4}


def test_a_note_is_written_now_and_then_and_is_not_kept(tmp_path):
    path, clock = tmp_path / "seconds.json", Clock()
    found = ledger(path, clock)
    spend(clock, found, "trained", goodput.EVERY / 2)
    found.note()
    assert not path.exists()
    spend(clock, found, "trained", goodput.EVERY)
    found.note()
    assert json.loads(path.read_text())["all"]["trained"] == 1.5 * goodput.EVERY
    assert json.loads(path.read_text())["kept"]["trained"] == 0


def test_a_damaged_file_is_named_with_the_way_out(tmp_path):
    path = tmp_path / "seconds.json"
    path.write_text('{"kept": ')
    with pytest.raises(UserError, match=rf"{path} is damaged .*; remove it: only the seconds of earlier starts"):
        ledger(path, Clock())


def test_an_event_within_another_counts_once():
    clock = Clock()
    found = goodput.Compiling(clock)
    for end, event, seconds in (
        (5.0, "compile/jaxpr_trace_duration", 1.0),
        (6.0, "compile/backend_compile_duration", 0.5),
        (8.0, "compile/jaxpr_trace_duration", 5.0),  # around both
        (9.0, "compile/backend_compile_duration", 1.0),
        (9.5, "other", 9.0),
    ):
        clock.now = end
        found(f"/jax/core/{event}", seconds)
    assert found.total() == 6.0


def test_a_program_is_compiled_once(tmp_path):
    found = goodput.Goodput(None)
    x = jnp.ones(3)
    program = jax.jit(lambda x: jnp.sin(x) * 17.25)
    found.mark("rest")
    before = found._seconds["compiled"]
    program(x).block_until_ready()
    found.mark("trained")
    first = found._seconds["compiled"]
    program(x).block_until_ready()
    found.mark("trained")
    assert first > before
    assert found._seconds["compiled"] == first
