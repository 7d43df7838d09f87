"""The loop: resume is exact, devices agree, a signal saves, a bad loss changes nothing."""

import contextlib
import json
import os
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxrjax import models
from cxrjax.console import Bar
from cxrjax.errors import UserError
from cxrjax.ops import augment
from cxrjax.tasks import classify
from cxrjax.train import log as logs
from cxrjax.train import loop
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch, State, Task

NET = models.build("resnet_tiny", num_classes=2, blocks=(1, 1), widths=(8, 16), dropout=0.2)
TX = optax.adam(3e-3)
OPTIONS = classify.Options(ranges=augment.Ranges(noise=0.05))
TASK = Task(
    init=partial(classify.init, NET, TX, OPTIONS),
    step=partial(classify.step, NET, TX, OPTIONS),
    predict=partial(classify.predict, NET, OPTIONS),
    summarize=partial(classify.summarize, OPTIONS),
    on_eval=partial(classify.on_eval, OPTIONS),
)
RNG = np.random.default_rng(0)
POOL = RNG.uniform(0, 1, (40, 16, 16, 1)).astype(np.float32)
LABEL = np.eye(2, dtype=np.float32)[RNG.integers(0, 2, 40)]


class Stream:
    """Batches by position; after `stop_at` of them it raises, as a kill would."""

    def __init__(self, size=8, stop_at=None, poison=(), on=None):
        self.position, self.size, self.stop_at, self.poison, self.on = 0, size, stop_at, poison, on

    def __next__(self):
        if self.position == self.stop_at:
            raise KeyboardInterrupt
        if self.on and self.position == self.on[0]:
            self.on[1]()
        index = (np.arange(self.size) + self.size * self.position) % 40
        image = POOL[index] * (np.nan if self.position in self.poison else 1.0)
        self.position += 1
        return Batch(image.astype(np.float32), LABEL[index], np.ones(self.size, np.float32), index.astype(np.int32))

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]

    def close(self):
        self.closed = True


def evals(size=16):
    for start in range(0, 48, size):
        index = np.arange(start, start + size)
        valid = index < 40
        index = np.where(valid, index, 0)
        yield Batch(POOL[index], LABEL[index], valid.astype(np.float32), index.astype(np.int32))


EXAMPLE = Batch(POOL[:8], LABEL[:8], np.ones(8, np.float32), np.arange(8, dtype=np.int32))


def fit(folder, stream, steps=12, devices=1, task=TASK, name="net", evals=evals, **phase):
    phase = {"log_every": 2, "eval_every": 4, "save_every": 3, **phase}
    folder.mkdir(exist_ok=True)
    with logs.Log(folder) as log:
        return loop.fit(
            task, loop.Phase(name, steps, **phase), stream=stream, evals=evals, example=EXAMPLE, workdir=folder,
            mesh=meshes.make(devices), key=jax.random.key(5), log=log,
        )  # fmt: skip


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), a, b))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return fit(folder, Stream()), folder


@pytest.mark.parametrize("kill_at", [2, 5, 11])
def test_a_killed_run_continues_to_the_same_bits(whole, tmp_path, kill_at):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, Stream(stop_at=kill_at))
    resumed = fit(tmp_path, Stream())
    assert same(resumed, whole[0])

    def lines(folder):
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    evaluations = [e for e in lines(tmp_path) if "eval" in e]
    assert evaluations == [e for e in lines(whole[1]) if "eval" in e]
    steps = [e["step"] for e in lines(tmp_path) if "eval" not in e]
    assert steps == sorted(set(steps))
    assert seconds(tmp_path)["lost"] > 0 == seconds(whole[1])["lost"]


def seconds(folder):
    return json.loads((folder / ".seconds.json").read_text())["kept"]


def test_where_the_seconds_went_is_kept(whole):
    found = seconds(whole[1])
    assert min(found[kind] for kind in ("trained", "compiled", "saved", "evaluated", "rest")) > 0


def test_a_finished_phase_is_not_trained_again(whole):
    state = fit(whole[1], Stream(stop_at=0))
    assert same(state, whole[0])


def test_best_brings_back_the_best_evaluated_step(tmp_path):
    state = fit(tmp_path, Stream(), eval_every=3, select="best", metric=("loss", "max"))
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    scored = {e["step"]: e["loss"] for e in entries if "eval" in e}
    assert int(state.step) == max(scored, key=scored.get)


def test_sigterm_saves_and_the_same_command_goes_on(whole, tmp_path):
    stream = Stream(on=(6, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(loop.Preempted, match="step 7"):
        fit(tmp_path, stream)
    assert same(fit(tmp_path, Stream()), whole[0])


def test_a_line_of_the_log_averages_the_same_steps_after_a_signal(whole, tmp_path):
    """Of 12 steps in windows of 5 the signal comes within the second."""
    lines = []
    for name, on in (("whole", None), ("stopped", (6, lambda: os.kill(os.getpid(), signal.SIGTERM)))):
        folder = tmp_path / name
        if on:
            with pytest.raises(loop.Preempted, match="step 7"):
                fit(folder, Stream(on=on), log_every=5, save_every=100)
        fit(folder, Stream(), log_every=5, save_every=100)
        lines.append((folder / "metrics.jsonl").read_text().splitlines())
    assert [json.loads(line)["step"] for line in lines[0] if "eval" not in line] == [5, 10, 12]
    assert sorted(lines[0]) == sorted(lines[1])


def test_a_signal_breaks_an_evaluation_off_which_is_then_done_first(whole, tmp_path):
    batches = []

    def slow():
        for batch in evals():
            batches.append(batch)
            if len(batches) == 5:  # the second of step 8's three
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with pytest.raises(loop.Preempted, match="step 8"):
        fit(tmp_path, Stream(), evals=slow)
    assert len(batches) == 5

    def lines(folder):
        return sorted((folder / "metrics.jsonl").read_text().splitlines())

    assert [json.loads(line)["step"] for line in lines(tmp_path) if "eval" in line] == [4]
    assert same(fit(tmp_path, Stream()), whole[0])
    assert lines(tmp_path) == lines(whole[1])


def test_a_batch_that_is_not_finite_changes_nothing_but_the_counter():
    state = TASK.init(jax.random.key(0), EXAMPLE)
    bad = EXAMPLE.replace(image=EXAMPLE.image * np.nan)
    step = jax.jit(partial(loop.advance, TASK.step))
    running = {k: loop.metrics.Average.empty() for k in ("loss", "grad_norm", "skipped")}
    after, running = step(state, running, bad, jax.random.key(0))
    assert same(after.replace(step=state.step), state)
    assert int(after.step) == 1
    assert float(running["skipped"].compute()) == 1
    after, running = step(after, running, EXAMPLE, jax.random.key(0))
    assert float(running["skipped"].compute()) == 0.5
    assert np.isfinite(float(running["loss"].compute()))


def test_an_epoch_moves_nothing_between_host_and_devices_unasked(tmp_path):
    """Steps, log and saves; every task's step is in `tasks/test_compiled.py`."""
    with contextlib.ExitStack() as guarded:
        stream = Stream(on=(1, lambda: guarded.enter_context(jax.transfer_guard("disallow"))))
        assert int(fit(tmp_path, stream, steps=5, evals=None).step) == 5


@pytest.mark.parametrize("part", ["params", "stats", "opt", "ema"])
def test_what_one_network_of_several_lost_is_not_kept_though_every_scalar_is_finite(part):
    """A generator's gradient is in no loss of its step; nor is a patch critic's in the autoencoder's."""
    both = {name: {"w": jnp.ones(3), "count": jnp.int32(0)} for name in ("g", "d64")}
    state = State(jnp.int32(0), both, both, both, both, {}, {"best": jnp.float32(jnp.inf)})
    running = {k: loop.metrics.Average.empty() for k in ("loss", "skipped")}
    for value, skipped in ((jnp.nan, 1), (jnp.inf, 1), (7.0, 0)):
        spoiled = {**both, "g": {"w": jnp.asarray([1.0, value, 1.0]), "count": jnp.int32(1)}}

        def step(state, batch, key, spoiled=spoiled):
            return state.replace(step=state.step + 1, **{part: spoiled}), {"loss": jnp.float32(0.5)}

        after, seen = loop.advance(step, state, running, EXAMPLE, jax.random.key(0))
        assert float(seen["skipped"].compute()) == skipped
        assert same(after, state.replace(step=1, **({} if skipped else {part: spoiled})))


@pytest.mark.parametrize(
    ("steps", "log_every", "poison", "at"),
    [
        (3, 20, range(40), 3), (1, 20, range(40), 1), (8, 4, range(4, 40), 8), (7, 4, range(4, 40), 7),
        (7, 4, range(5, 40), None), (5, 4, range(4, 40), None),
    ],
)  # fmt: skip
def test_divergence_is_told_of_a_window_also_of_a_shorter_last_one(tmp_path, steps, log_every, poison, at):
    def train():
        return fit(tmp_path, Stream(poison=poison), steps=steps, log_every=log_every, eval_every=0, save_every=100)

    if at is None:  # a step of the window was finite, or it is one step, which may be its batch's fault
        assert int(train().step) == steps
    else:
        with pytest.raises(loop.Diverged, match=rf"up to step {at} \(last batch: films \[\d+, "):
            train()
        assert not any(path.name.isdigit() for path in (tmp_path / "checkpoints" / "net").iterdir())


def test_divergence_is_told_of_a_resumed_phase_as_of_a_whole_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, Stream(stop_at=3), steps=13, log_every=5, eval_every=0)
    with pytest.raises(loop.Diverged, match="in the 5 steps up to step 10 "):  # the window of 1 to 5 has good ones
        fit(tmp_path, Stream(poison=range(3, 40)), steps=13, log_every=5, eval_every=0, save_every=100)


def test_a_run_without_a_finite_loss_stops_with_advice_and_keeps_its_checkpoint(tmp_path):
    with pytest.raises(loop.Diverged, match=r"optim\.lr"):
        fit(tmp_path, Stream(poison=range(5, 40)))
    assert same(fit(tmp_path, Stream()), fit(tmp_path, Stream()))


def test_evaluation_counts_every_film_once_and_padding_never():
    mesh = meshes.make(1)
    state = meshes.replicate(mesh, TASK.init(jax.random.key(0), EXAMPLE))
    rows = loop.evaluate(jax.jit(TASK.predict), state, evals(), mesh, jax.random.key(0))
    assert np.array_equal(rows["index"], np.arange(40))
    assert np.array_equal(rows["label"], LABEL)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 (fake) devices")
def test_one_and_eight_devices_give_the_same_gradients():
    def gradient(devices):
        mesh = meshes.make(devices)
        task = TASK._replace(step=partial(classify.step, NET, optax.sgd(1.0), classify.Options()))
        state = classify.init(NET, optax.sgd(1.0), classify.Options(), jax.random.key(0), EXAMPLE)
        placed = meshes.replicate(mesh, state)
        new, scalars = jax.jit(task.step)(placed, meshes.put(mesh, EXAMPLE), meshes.replicate(mesh, jax.random.key(1)))
        step = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), state.params, new.params)  # lr 1: the gradient
        return step, jax.tree.map(np.asarray, new.stats), float(scalars["loss"])

    (one, stats1, loss1), (eight, stats8, loss8) = gradient(1), gradient(8)
    assert loss1 == pytest.approx(loss8, rel=1e-5)
    for a, b in zip(jax.tree.leaves((one, stats1)), jax.tree.leaves((eight, stats8)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(a).max()))


def test_the_step_compiles_once_for_every_phase_of_a_task(tmp_path, caplog):
    traces, seen = [], []

    def step(*args):
        traces.append(1)
        return TASK.step(*args)

    task = TASK._replace(step=step)  # a task that no other test has compiled
    with jax.log_compiles(), caplog.at_level("WARNING"):
        for name in ("a", "b"):
            fit(tmp_path, Stream(), steps=6, task=task, name=name)
            seen.append(len(traces))
    compiled = [r.getMessage() for r in caplog.records if "Compiling jit(advance)" in r.getMessage()]
    assert len(compiled) == 1
    assert seen[1] == seen[0]


def test_a_finished_phase_goes_on_when_it_is_made_longer(whole, tmp_path):
    fit(tmp_path, Stream(), steps=6)
    assert same(fit(tmp_path, Stream()), whole[0])


def test_evaluations_are_read_back_by_phase(whole, tmp_path):
    lines = (whole[1] / "metrics.jsonl").read_text()
    with logs.Log(tmp_path) as log:
        (tmp_path / "metrics.jsonl").write_text(lines)
        log.write("other", 1, {"loss": float("nan")}, split="val")
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"phase": "net", "step": 99, "eval": "val", "lo')  # a kill's
        assert [e["step"] for e in log.evaluations("net")] == [4, 8, 12]
        assert all(set(e) == {"step", "loss", "auroc", "accuracy"} for e in log.evaluations("net"))
        assert log.evaluations("third") == []
        assert log.evaluations("other") == [{"step": 1, "loss": None}]


def test_a_signal_on_the_last_step_stops_the_run_and_loses_nothing(whole, tmp_path):
    stream = Stream(on=(11, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(loop.Preempted, match="step 12"):
        fit(tmp_path, stream)
    assert same(fit(tmp_path, Stream(stop_at=0)), whole[0])


def test_the_best_step_is_the_evaluated_one_also_between_saves(tmp_path):
    state = fit(tmp_path, Stream(), eval_every=5, save_every=4, select="best", metric=("loss", "max"))
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    scored = {e["step"]: e["loss"] for e in entries if "eval" in e}
    assert int(state.step) == max(scored, key=scored.get)


def test_best_without_a_validation_part_is_refused_before_training(tmp_path):
    with logs.Log(tmp_path) as log, pytest.raises(UserError, match="validation part"):
        loop.fit(
            TASK, loop.Phase("net", 6, select="best"), stream=Stream(stop_at=0), evals=None, example=EXAMPLE,
            workdir=tmp_path, mesh=meshes.make(1), key=jax.random.key(5), log=log,
        )  # fmt: skip


def test_the_earlier_phase_survives_being_carried(tmp_path):
    with logs.Log(tmp_path) as log:
        earlier = fit(tmp_path / "a", Stream(), steps=4)
        before = jax.tree.map(np.array, earlier)
        later = loop.fit(
            TASK, loop.Phase("later", 4, log_every=2), stream=Stream(), evals=None, example=EXAMPLE, workdir=tmp_path,
            mesh=meshes.make(1), key=jax.random.key(6), log=log,
            carry=lambda fresh: fresh.replace(params=earlier.params, stats=earlier.stats),
        )  # fmt: skip
    assert same(earlier, before)
    assert not same(later.params, earlier.params)


def test_the_bar_counts_no_step_before_its_window_was_read(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(Bar, "update", lambda self, task, **changes: said.append(changes["completed"]))
    monkeypatch.setattr(logs.Log, "write", lambda self, phase, step, scalars: said.append(f"read {step}"))
    fit(tmp_path, Stream(), steps=9, evals=None, log_every=3)
    assert said == [1, "read 3", 3, "read 6", 6, "read 9", 9]
