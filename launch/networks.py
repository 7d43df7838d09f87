"""The cases of `bench.py` that have a peer in torch: a train step, and inference, of a whole network.

Both sides get the same films, as many threads, float32, and plain gradient descent; parameters are as many, which is
checked. Torch runs eagerly, in its default layout and with channels last, its faster one on CPU.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from timing import Row, Timed, compiled, rates

INSTALL = "pip install -e '.[parity]'"


class Network(NamedTuple):
    """A network by our name, the films of a batch, and who makes torch's."""

    name: str
    batch: int
    side: int
    theirs: Callable[[], Any]


def _lite0() -> Any:
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def _torchvision(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import torchvision

        return getattr(torchvision.models, name)(weights=None)

    return make


NETWORKS = {
    "lite0": Network("efficientnet_lite0", 32, 160, _lite0),
    "lite0_224": Network("efficientnet_lite0", 32, 224, _lite0),
    "densenet121": Network("densenet121", 4, 224, _torchvision("densenet121")),
    "resnet50": Network("resnet50", 4, 224, _torchvision("resnet50")),
}


def case(network: Network, train: bool) -> Callable[..., list[Row]]:
    """A function of the number of rounds, and of whether torch is beside (`peer`), for `cases.CASES`."""

    def measure(repeats: int, *, peer: bool = False, batch: int = network.batch, side: int = network.side) -> list[Row]:
        ours, parameters = _ours(network.name, batch, side, train)
        theirs = _theirs(network.theirs, batch, side, train, parameters) if peer else {}
        return rates({**theirs, f"cxrjax, {batch} films of {side} px": ours}, repeats, "films/s")

    what = "A train step" if train else "Inference"
    measure.__doc__ = (
        f"{what} of {network.name} on {network.batch} films of {network.side} px; --peer puts torch beside."
    )
    return measure


def _ours(name: str, batch: int, side: int, train: bool) -> tuple[Timed, int]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cxrjax import models

    net = models.build(name, num_classes=1000)
    x = jnp.asarray(np.random.default_rng(0).random((batch, side, side, 3), np.float32))
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.jit(net.init)(rngs, x[:1])
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    if not train:
        call, took = compiled(lambda v, x: net.apply(v, x)[0], variables, x)
        return Timed(call, batch, took), count

    def loss(params: Any, stats: Any, x: Any, key: Any) -> tuple[Any, Any]:
        (logits, _), new = net.apply(
            {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return jnp.square(logits).mean(), new["batch_stats"]

    def step(params: Any, stats: Any, x: Any, key: Any) -> tuple[Any, Any]:
        found, stats = jax.grad(loss, has_aux=True)(params, stats, x, key)
        return jax.tree.map(lambda p, g: p - 1e-4 * g, params, found), stats

    held = [(variables["params"], variables["batch_stats"])]
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(*held[0], x, rngs["dropout"])
    start = time.perf_counter()
    program = lowered.compile()
    took = time.perf_counter() - start

    def call() -> None:
        held[0] = jax.block_until_ready(program(*held[0], x, rngs["dropout"]))

    return Timed(call, batch, took), count


def _theirs(make: Callable[[], Any], batch: int, side: int, train: bool, parameters: int) -> dict[str, Timed]:
    import torch

    from cxrjax.errors import UserError

    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    out = {}
    for words, layout in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
        torch.manual_seed(0)
        net = make().to(memory_format=layout).train(train)
        count = sum(p.numel() for p in net.parameters())
        if count != parameters:
            raise UserError(f"torch's network has {count:,} parameters, ours {parameters:,}: no comparison")
        x = torch.rand(batch, 3, side, side).to(memory_format=layout)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)

        def step(net: Any = net, x: Any = x, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()

        def infer(net: Any = net, x: Any = x) -> None:
            with torch.inference_mode():
                net(x)

        out[f"torch {torch.__version__.partition('+')[0]}{words}"] = Timed(step if train else infer, batch)
    return out


# name -> a function of the number of rounds.
CASES = {
    f"{name}_{kind}": case(network, kind == "train")
    for name, network in NETWORKS.items()
    for kind in ("train", "infer")
}
