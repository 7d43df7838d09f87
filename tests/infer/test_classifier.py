"""What a walk asks of a classifier, against a network that can be written down."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.infer import classifier
from cxrjax.tasks import classify
from cxrjax.train import mesh as meshes


class Net:
    """Logits plus and minus the mean of what it is shown; one map, of angle the shown value."""

    def apply(self, variables: Any, x: jax.Array, train: bool) -> Any:
        mean = x.mean(axis=(1, 2, 3))
        turned = jnp.concatenate([jnp.cos(x), jnp.sin(x)], axis=-1) * variables["length"]
        return jnp.stack([mean, -mean], axis=1), {"features": turned, "map": x, "pooled": turned.mean(axis=(1, 2))}


def test_the_loss_is_of_normal_and_the_distance_of_unit_vectors_at_each_place():
    net: Any = Net()
    one = classifier.Classifier(
        net, classify.Options(), {"net": {"length": 7.0}}, ("Normal", "Pneumonia"), 4, meshes.make(1)
    )
    a, b = (jax.random.uniform(jax.random.key(seed), (2, 4, 4, 1)) for seed in (0, 1))
    loss, distance = classifier.asked(one)
    shown = [np.asarray(classifier.seen(one, film)) for film in (a, b)]
    mean = shown[0].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(loss(a), np.log1p(np.exp(-2 * mean)), rtol=1e-5)
    # Of two unit vectors an angle apart; the length of features does not count, and the map of classes is none of them.
    np.testing.assert_allclose(distance(a, b), 2 - 2 * np.cos(shown[0] - shown[1]), atol=1e-5)
