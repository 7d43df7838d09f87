from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxrjax import models
from cxrjax.tasks import classify
from cxrjax.types import Batch

NET = models.build("resnet_tiny", num_classes=2, blocks=(1, 1), widths=(8, 16))
TX = optax.adam(3e-3)


def batch(n=16, size=16):
    """Bright squares against none: a thing that can be learned."""
    rng = np.random.default_rng(0)
    image = rng.uniform(0.2, 0.4, (n, size, size, 1)).astype(np.float32)
    sick = np.arange(n) % 2
    image[sick == 1, 4:9, 4:9] += 0.4
    return Batch(image, np.eye(2, dtype=np.float32)[sick], np.ones(n, np.float32), np.arange(n, dtype=np.int32))


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_training_steps_lower_the_loss_on_a_fixed_batch(loss):
    options = classify.Options(loss=loss)
    state = classify.init(NET, TX, jax.random.key(0), batch())
    step = jax.jit(partial(classify.step, NET, TX, options))
    losses = []
    for i in range(8):
        state, scalars = step(state, batch(), jax.random.key(i))
        losses.append(float(scalars["loss"]))
    assert losses[1] < losses[0]
    assert losses[-1] < 0.7 * losses[0]
    assert int(state.step) == 8


def test_one_step_moves_weights_statistics_and_optimizer_but_not_its_inputs():
    state = classify.init(NET, TX, jax.random.key(0), batch())
    before = jax.tree.map(np.array, state)
    new, _ = jax.jit(partial(classify.step, NET, TX, classify.Options()))(state, batch(), jax.random.key(0))
    for name in ("params", "stats", "opt"):
        pairs = zip(jax.tree.leaves(getattr(before, name)), jax.tree.leaves(getattr(new, name)), strict=True)
        assert any(not np.array_equal(a, b) for a, b in pairs), name
    assert jax.tree.all(jax.tree.map(np.array_equal, before, state))


def test_padding_changes_neither_loss_nor_gradient_of_a_network_without_batch_statistics():
    # BatchNorm sees every row, so the claim is about the head alone: train only what follows the statistics.
    real = batch(8)
    padded = jax.tree.map(lambda x: np.concatenate([x, np.zeros_like(x[:4])]), real)
    state = classify.init(NET, TX, jax.random.key(0), real)
    rows = classify.predict(NET, state, padded, jax.random.key(0))
    expected = classify.predict(NET, state, real, jax.random.key(0))
    np.testing.assert_allclose(rows["logits"][:8], expected["logits"], atol=1e-5)


def test_augmentation_depends_on_the_key_alone():
    options = classify.Options(warp=4, optical_limit=0.3, noise=0.1)
    image = jnp.asarray(batch(4, 32).image)
    run = jax.jit(partial(classify.augment, options))
    a, b, c = run(jax.random.key(0), image), run(jax.random.key(0), image), run(jax.random.key(1), image)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert np.array_equal(classify.augment(classify.Options(), jax.random.key(0), image), image)


def test_summary_of_perfect_and_of_reversed_rows():
    label = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    logits = np.asarray(label * 8 - 4, np.float32)
    good = classify.summarize(classify.Options(), {"logits": logits, "label": label})
    assert good["accuracy"] == 1
    assert good["auroc"] == 1
    bad = classify.summarize(classify.Options(), {"logits": -logits, "label": label})
    assert bad["accuracy"] == 0
    assert bad["auroc"] == 0
    assert bad["loss"] > good["loss"]


def test_on_eval_keeps_the_lowest_loss():
    state = classify.init(NET, TX, jax.random.key(0), batch())
    for loss, best in ((0.5, 0.5), (0.7, 0.5), (0.2, 0.2)):
        state = classify.on_eval(state, {"loss": loss})
        assert float(state.evals["best_loss"]) == pytest.approx(best)
