"""The cases of `bench.py` that have a peer in torch: a train step, and inference, of a whole network.

Both sides get the same films, as many threads, float32, and plain gradient descent; parameters are as many, which is
checked. Torch runs eagerly, in its default layout and with channels last, its faster one on CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from timing import Row, Timed, compiled, rates, threads

INSTALL = "pip install -e '.[parity]'"


class Network(NamedTuple):
    """A network by our name, the films of a batch, who makes torch's, and our options.

    Attributes:
      times: whether it is told a timestep, too; its films then have one channel.
    """

    name: str
    batch: int
    side: int
    theirs: Callable[[], Any]
    options: dict[str, Any] = {"num_classes": 1000}  # noqa: RUF012
    times: bool = False


def _lite0() -> Any:
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def _torchvision(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import torchvision

        return getattr(torchvision.models, name)(weights=None)

    return make


def _unet() -> Any:
    import torch_unet

    return torch_unet.UNet(**UNET)


UNET = {"base": 32, "mults": (1, 2, 4), "num_res_blocks": 1, "groups": 8, "heads": 2}
NETWORKS = {
    "lite0": Network("efficientnet_lite0", 32, 160, _lite0),
    "lite0_224": Network("efficientnet_lite0", 32, 224, _lite0),
    "densenet121": Network("densenet121", 4, 224, _torchvision("densenet121")),
    "resnet50": Network("resnet50", 4, 224, _torchvision("resnet50")),
    "unet": Network("unet_tiny", 16, 64, _unet, UNET, times=True),
}


def case(network: Network, train: bool) -> Callable[..., list[Row]]:
    """A function of the number of rounds, and of whether torch is beside (`peer`), for `cases.CASES`."""

    def measure(repeats: int, *, peer: bool = False, batch: int = network.batch, side: int = network.side) -> list[Row]:
        sized = network._replace(batch=batch, side=side)
        ours, parameters = _ours(sized, train)
        theirs = _theirs(sized, train, parameters) if peer else {}
        return rates({**theirs, f"cxrjax, {batch} films of {side} px": ours}, repeats, "films/s")

    what = "A train step" if train else "Inference"
    measure.__doc__ = (
        f"{what} of {network.name} on {network.batch} films of {network.side} px; --peer puts torch beside."
    )
    return measure


def _films(network: Network) -> tuple[Any, ...]:
    """(b, h, w, c) and, where the network is told them, timesteps (b,)."""
    import numpy as np

    rng, times = np.random.default_rng(0), network.times
    x = rng.random((network.batch, network.side, network.side, 1 if times else 3), np.float32)
    return (x, np.arange(network.batch, dtype=np.float32)) if times else (x,)


def _ours(network: Network, train: bool) -> tuple[Timed, int]:
    import jax
    import jax.numpy as jnp

    from cxrjax import models

    net = models.build(network.name, **network.options)
    films = jax.device_put(_films(network))
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = dict(jax.jit(net.init)(rngs, *(a[:1] for a in films)))
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    if not train:
        call, took = compiled(lambda v, *films: net.apply(v, *films)[0], variables, *films)
        return Timed(call, network.batch, took), count

    def loss(params: Any, rest: Any, films: Any, key: Any) -> tuple[Any, Any]:
        (y, _), new = net.apply(
            {"params": params, **rest}, *films, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return jnp.square(y).mean(), new

    def step(params: Any, rest: Any, films: Any, key: Any) -> tuple[Any, Any]:
        found, rest = jax.grad(loss, has_aux=True)(params, rest, films, key)
        return jax.tree.map(lambda p, g: p - 1e-4 * g, params, found), rest

    params = variables.pop("params")
    held = [(params, variables)]
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(*held[0], films, rngs["dropout"])
    start = time.perf_counter()
    program = lowered.compile()
    took = time.perf_counter() - start

    def call() -> None:
        held[0] = jax.block_until_ready(program(*held[0], films, rngs["dropout"]))

    return Timed(call, network.batch, took), count


def _theirs(network: Network, train: bool, parameters: int) -> dict[str, Timed]:
    import torch

    from cxrjax.errors import UserError

    torch.set_num_threads(threads())
    out = {}
    for words, layout in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
        torch.manual_seed(0)
        net = network.theirs().to(memory_format=layout).train(train)
        count = sum(p.numel() for p in net.parameters())
        if count != parameters:
            raise UserError(f"torch's network has {count:,} parameters, ours {parameters:,}: no comparison")
        x, *times = map(torch.from_numpy, _films(network))
        films = (x.permute(0, 3, 1, 2).contiguous(memory_format=layout), *times)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)

        def step(net: Any = net, films: Any = films, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            net(*films).square().mean().backward()
            optimizer.step()

        def infer(net: Any = net, films: Any = films) -> None:
            with torch.inference_mode():
                net(*films)

        name = f"torch {torch.__version__.partition('+')[0]}{words}"
        out[name] = Timed(step if train else infer, network.batch)
    return out


# name -> a function of the number of rounds.
CASES = {
    f"{name}_{kind}": case(network, kind == "train")
    for name, network in NETWORKS.items()
    for kind in ("train", "infer")
}
