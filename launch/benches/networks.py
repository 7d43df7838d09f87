"""The cases that have a peer in torch: a train step, and inference, of a whole network.

Both sides get the same films, as many threads, one precision, and plain gradient descent; parameters are as many, which
is checked. Torch runs in its default layout and with channels last, its faster one, which is compiled too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cores

from benches.timing import Case, Row, Timed, compiled, rates, stepped


class Network(NamedTuple):
    """A network by our name, the films of a batch, and who makes torch's.

    Attributes:
      name, options: of `models.build`.
      theirs: `(options, side) -> module`.
      times: whether it is told a timestep, too; its films then have one channel.
      tiny: options, batch and side of a dry run.
      card: too large for a processor.
    """

    name: str
    batch: int
    side: int
    theirs: Callable[[dict[str, Any], int], Any]
    options: dict[str, Any] = {"num_classes": 1000}  # noqa: RUF012
    times: bool = False
    tiny: dict[str, Any] = {"batch": 2, "side": 32}  # noqa: RUF012
    card: bool = False


def _lite0(options: dict[str, Any], side: int) -> Any:
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def _torchvision(name: str) -> Callable[[dict[str, Any], int], Any]:
    def make(options: dict[str, Any], side: int) -> Any:
        import torchvision

        return getattr(torchvision.models, name)(weights=None)

    return make


def unet(options: dict[str, Any], side: int) -> Any:
    """Torch's U-Net for films of `side` pixels."""
    from benches import torch_unet

    return torch_unet.UNet(**options, side=side)


UNET = {"base": 32, "mults": (1, 2, 4), "num_res_blocks": 1, "groups": 8, "heads": 2}
PAPER = {
    "base": 128, "mults": (1, 1, 2, 2, 4, 4), "attention": (32, 16, 8), "num_res_blocks": 2, "groups": 32, "heads": 2
}  # fmt: skip
TINY = {
    "batch": 1, "side": 8,
    "options": {"base": 8, "mults": (1, 2), "attention": (4,), "num_res_blocks": 1, "groups": 4, "heads": 2},
}  # fmt: skip
NETWORKS = {
    "lite0": Network("efficientnet_lite0", 32, 160, _lite0),
    "lite0_224": Network("efficientnet_lite0", 32, 224, _lite0),
    "densenet121": Network("densenet121", 4, 224, _torchvision("densenet121")),
    "densenet121_64": Network("densenet121", 64, 224, _torchvision("densenet121"), card=True),
    "resnet50": Network("resnet50", 4, 224, _torchvision("resnet50")),
    "unet": Network("unet_tiny", 16, 64, unet, UNET, times=True, tiny=TINY),
    "unet_paper": Network("unet", 8, 256, unet, PAPER, times=True, tiny=TINY, card=True),
}


def case(network: Network, train: bool) -> Case:
    """The case of a network's train step, or of its inference."""

    def measure(
        repeats: int, *, peer: str = "", dtype: str = "float32", batch: int = network.batch,
        side: int = network.side, options: dict[str, Any] = network.options,
    ) -> list[Row]:  # fmt: skip
        sized = network._replace(batch=batch, side=side, options=options)
        ours, parameters = _ours(sized, train, dtype)
        theirs = _theirs(sized, train, dtype, parameters, ours.flops, peer) if peer else {}
        return rates({**theirs, f"cxrjax, {batch} films of {side} px, {dtype}": ours}, repeats, "films/s")

    what = "A train step" if train else "Inference"
    words = f"{what} of {network.name} on {network.batch} films of {network.side} px; --peer puts torch beside."
    return Case(measure, words, network.tiny, "torch", ("peer", "dtype"), network.card)


def _films(network: Network) -> tuple[Any, ...]:
    """(b, h, w, c) and, where the network is told them, timesteps (b,)."""
    import numpy as np

    rng, times = np.random.default_rng(0), network.times
    x = rng.random((network.batch, network.side, network.side, 1 if times else 3), np.float32)
    return (x, np.arange(network.batch, dtype=np.float32)) if times else (x,)


def _ours(network: Network, train: bool, dtype: str) -> tuple[Timed, int]:
    import jax
    import jax.numpy as jnp

    from cxrjax import models
    from cxrjax.train import mesh as meshes

    net = models.build(network.name, **network.options, dtype=dtype)
    mesh = meshes.make(cores.share([network.batch], jax.device_count()) if jax.default_backend() == "cpu" else 1)
    films = meshes.put(mesh, _films(network))  # as main.py splits them
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = dict(jax.jit(net.init)(rngs, *(a[:1] for a in _films(network))))
    variables, rngs = meshes.replicate(mesh, (variables, rngs))
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    shared: dict[str, Any] = {"items": network.batch, "dtype": dtype}
    if not train:
        return compiled(lambda v, *films: net.apply(v, *films)[0], variables, *films, **shared), count

    def loss(params: Any, rest: Any, films: Any, key: Any) -> tuple[Any, Any]:
        (y, _), new = net.apply(
            {"params": params, **rest}, *films, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return jnp.square(y.astype(jnp.float32)).mean(), new

    def step(state: tuple[Any, Any], films: Any, key: Any) -> tuple[Any, Any]:
        params, rest = state
        found, rest = jax.grad(loss, has_aux=True)(params, rest, films, key)
        return jax.tree.map(lambda p, g: p - 1e-4 * g, params, found), rest

    params = variables.pop("params")
    return stepped(step, (params, variables), films, rngs["dropout"], **shared), count


def _theirs(
    network: Network, train: bool, dtype: str, parameters: int, flops: float | None, peer: str
) -> dict[str, Timed]:
    import torch

    from benches import torch_side

    place, out = torch_side.device(), {}
    for words, layout in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
        torch.manual_seed(0)
        net = network.theirs(network.options, network.side).to(place, memory_format=layout).train(train)
        torch_side.check_count(torch_side.count(net), parameters)
        x, *times = (torch.from_numpy(a).to(place) for a in _films(network))
        films = (x.permute(0, 3, 1, 2).contiguous(memory_format=layout), *times)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)

        def build(wrap: Any, net: Any = net, films: Any = films, optimizer: Any = optimizer) -> Callable[[], None]:
            look = wrap(net)

            def step() -> None:
                optimizer.zero_grad()
                with torch_side.lower_precision(dtype):
                    y = look(*films)
                y.float().square().mean().backward()
                optimizer.step()

            def infer() -> None:
                with torch.inference_mode(), torch_side.lower_precision(dtype):
                    look(*films)

            return step if train else infer

        theirs = peer if layout is torch.channels_last else ""
        out |= torch_side.variants(words, build, network.batch, dtype, flops, theirs)
    return out


CASES = {
    f"{name}_{kind}": case(network, kind == "train")
    for name, network in NETWORKS.items()
    for kind in ("train", "infer")
}
