"""Adversarial training at one scale: the other reading of the ratio, several devices, a run that is killed."""

import dataclasses
import json
from functools import partial

import jax
import numpy as np
import optax
import pytest

from cxrjax import models
from cxrjax.tasks import gan
from cxrjax.train import log as logs
from cxrjax.train import loop
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch, Task

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
OPTIONS = gan.Options(("Cardiomegaly", "Effusion", "Mass"), noise=5, ratio=5, tau_every=3)
# Of 16 pixels, whose 256 positions the attention takes in blocks.
G, D = models.build_gan("cgan", sizes=(16,), features=4, d_features=4)
NETS = gan.Networks(G, D, {name: optax.adam(1e-2) for name in ("g", *D)})


def batch(seed=0):
    image = np.random.default_rng(seed).uniform(0, 1, (8, 16, 16, 1)).astype(np.float32)
    label = np.eye(4, dtype=np.float32)[np.arange(8) % 4, :3]
    return Batch(image, label, np.ones(8, np.float32), np.arange(8, dtype=np.int32))


@pytest.fixture(scope="module")
def start():
    return jit(partial(gan.init, NETS, OPTIONS))(jax.random.key(0), batch())


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def updates(opt):
    """How often Adam has moved."""
    return int(opt[0].count)


def test_all_d_per_batch_updates_the_discriminators_by_the_ratio_and_the_generator_once(start):
    options = OPTIONS._replace(ratio=3, ratio_mode="all_d_per_batch")
    after, scalars = jit(partial(gan.step, NETS, options))(start, batch(), jax.random.key(0))
    assert {name: updates(opt) for name, opt in after.opt.items()} == {"g": 1, "d16": 3}
    assert int(after.step) == 1
    assert not same(start.params["g"], after.params["g"])
    assert set(scalars) == {"loss", "loss_g", "loss_d16"}
    assert all(np.shape(v) == () for v in scalars.values())
    now = {"params": after.params["g"], **after.stats["g"]}
    for old, new, averaged in zip(*map(jax.tree.leaves, (start.ema["g"], now, after.ema["g"])), strict=True):
        np.testing.assert_allclose(averaged, 0.1 * old + 0.9 * new, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("player", ["g", "d16"])
def test_a_player_whose_update_is_not_finite_is_as_it_was(start, player):
    nets = NETS._replace(tx={**NETS.tx, player: optax.chain(NETS.tx[player], optax.scale(np.inf))})
    state = dataclasses.replace(start, opt={name: nets.tx[name].init(start.params[name]) for name in start.params})
    names = ("loss", "loss_g", "loss_d16", "skipped")
    running = {name: loop.metrics.Average.empty() for name in names}
    step = jit(partial(loop.advance, partial(gan.step, nets, OPTIONS._replace(ratio=1))))
    after, running = step(state, running, batch(), jax.random.key(0))
    assert same(after.replace(step=state.step), state)
    assert float(running["skipped"].compute()) == 1


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 (fake) devices")
def test_one_and_eight_devices_give_the_same_gradients(start):
    nets = NETS._replace(tx=dict.fromkeys(NETS.tx, optax.sgd(1.0)))
    opt = {name: nets.tx[name].init(start.params[name]) for name in nets.tx}
    state = dataclasses.replace(start, opt=opt, step=np.int32(15))  # its attention has a weight

    def both(state, batch, key):
        c = gan.condition_of(OPTIONS, batch.label)
        d, scalars = gan._discriminate(nets, OPTIONS, state, (2 * batch.image - 1,), c, batch.valid, key)
        g = gan._generate(nets, OPTIONS, state, c, batch.valid, key)
        return {**d.params, "g": g.params["g"]}, {**d.stats, "g": g.stats["g"]}, scalars

    def run(devices):
        mesh = meshes.make(devices)
        placed = meshes.replicate(mesh, (state, jax.random.key(1)))
        params, stats, scalars = jit(both)(placed[0], meshes.put(mesh, batch()), placed[1])
        gradients = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), state.params, params)  # lr 1
        return gradients, jax.tree.map(np.asarray, (stats, scalars))

    one, eight = run(1), run(8)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(a).max()))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(one[0]["d16"]))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_killed_run_continues_to_the_same_bits_over_the_alternation(start, tmp_path, stream):
    task = Task(
        init=lambda key, batch: start,
        step=partial(gan.step, NETS, OPTIONS),
        predict=partial(gan.predict, NETS, OPTIONS),
        summarize=partial(gan.summarize, OPTIONS),
        on_eval=gan.on_eval,
    )

    def fit(folder, stop_at=None):
        folder.mkdir(exist_ok=True)
        with logs.Log(folder) as log:
            return loop.fit(
                task, loop.Phase("gan", 7, log_every=2, eval_every=6, save_every=3), stream=stream(batch, stop_at),
                evals=lambda: iter([batch(seed=99)]), example=batch(), workdir=folder, mesh=meshes.make(1),
                key=jax.random.key(5), log=log,
            )  # fmt: skip

    whole = fit(tmp_path / "whole")
    assert (updates(whole.opt["g"]), updates(whole.opt["d16"])) == (1, 7)
    for kill_at in (4, 6):  # saved after 3 and after 6 batches: before and after the generator's only turn
        folder = tmp_path / str(kill_at)
        with pytest.raises(KeyboardInterrupt):
            fit(folder, stop_at=kill_at)
        resumed = fit(folder)
        assert jax.tree.structure(resumed) == jax.tree.structure(whole)
        assert same(resumed, whole)
    entries = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    evaluated = [entry for entry in entries if "eval" in entry]
    assert [entry["step"] for entry in evaluated] == [6, 7]
    assert all("collapsed" in entry and "ms_ssim/Mass" in entry for entry in evaluated)
