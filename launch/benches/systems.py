"""The cases of whole systems: a grid's cells, the GAN's alternation, films that are treated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benches import networks
from benches.timing import Case, Row, Timed, compiled, rates, stepped


def grid(repeats: int, *, size: int = 32, batch: int = 32) -> list[Row]:
    """A step of 24 grid cells (12 learning rates, 2 momenta): one after the other, and together under vmap."""
    import jax
    import jax.numpy as jnp

    from cxrjax import defaults
    from cxrjax.tasks import cells
    from cxrjax.train import mesh as meshes

    mesh, config = meshes.make(), defaults.classify({"name": "resnet_tiny"}, defaults.optim("adam", 1e-3), 1000, batch)
    points = [cells.Cell("resnet_tiny", "adam", 0.25 * 2.0**-k, m) for k in range(12) for m in (0.3, 0.9)]
    local = _films(batch, size, 2)
    films, key = meshes.put(mesh, local), meshes.replicate(mesh, jax.random.key(0))

    def stepped(task: Any, place: Any, fills: Sequence[Callable[[Any], Any]]) -> Timed:
        """One program serves all states: it could not serve another cell by compiling anew, it would fail."""
        shardings = place(mesh, jax.eval_shape(task.init, key, local))
        init = jax.jit(task.init, out_shardings=shardings)
        copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=shardings)
        states = [copy(fill(init(key, local))) for fill in fills]
        step = jax.jit(task.step, out_shardings=(shardings, None), donate_argnums=(0,))
        start = time.perf_counter()
        program = step.lower(states[0], films, key).compile()
        took = time.perf_counter() - start

        def call() -> None:
            states[:] = [program(state, films, key)[0] for state in states]
            jax.block_until_ready(states)

        return Timed(call, 1, took)

    fills = [partial(cells.with_hyper, lr=cell.lr, momentum=cell.momentum) for cell in points]
    stacked = meshes.stacked_shardings if len(points) % mesh.size == 0 else meshes.state_shardings
    variants = {
        f"24 cells in turn, resnet_tiny, {batch} films of {size} px": stepped(
            cells.alone(config, 2, "adam"), meshes.state_shardings, fills
        ),
        "24 cells together": stepped(cells.together(config, 2, points, mesh), stacked, [lambda state: state]),
    }
    return rates(variants, repeats, "steps of all/s")


def _films(batch: int, size: int, classes: int) -> Any:
    import numpy as np

    from cxrjax.types import Batch

    return Batch(
        np.random.default_rng(0).random((batch, size, size, 1), np.float32),
        np.eye(classes, dtype=np.float32)[np.arange(batch) % classes], np.ones(batch, np.float32),
        np.arange(batch, dtype=np.int32),
    )  # fmt: skip


def gan(
    repeats: int, *, peer: str = "", dtype: str = "float32", size: int = 256, features: int = 64, batch: int = 16
) -> list[Row]:
    """Five batches of the paper's GAN, with one update of its generator."""
    import jax
    import numpy as np

    from cxrjax import defaults
    from cxrjax.tasks import gan as task

    classes, sizes = ("Cardiomegaly", "Effusion", "Mass", "Pneumothorax"), (size // 4, size // 2, size)
    films = _films(batch, size, len(classes))
    net = {"name": "cgan", "sizes": sizes, "features": features, "d_features": features, "dtype": dtype}
    config = defaults.gan(net, 2e-5, 1000, batch)
    made = task.make(config, classes)
    placed, key = jax.device_put(films), jax.random.key(0)
    state = jax.jit(made.init)(key, placed)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    ours = stepped(lambda *given: made.step(*given)[0], state, placed, key, items=5, dtype=dtype, calls=5)
    variants = {}
    if peer:
        from benches import torch_gan, torch_side

        shared = (films.image, np.asarray(films.label), sizes, features, config.latent, dtype, parameters)
        variants = torch_side.variants("", lambda wrap: torch_gan.five(wrap, *shared), 5, dtype, peer=peer)
    sides = ", ".join(map(str, sizes))
    # The generator's update counts in every batch of `flops`, and happens in one of five: no share is told.
    variants[f"cxrjax: {batch} films of {sides} px, {dtype}"] = ours._replace(flops=None)
    return rates(variants, repeats, "batches/s")


def treat(size: int, batch: int, name: str, options: dict[str, Any], card: bool) -> Case:
    """A case: films that a diffusion treats from lambda 400 by 50 evaluations of its U-Net."""

    def measure(
        repeats: int, *, peer: str = "", dtype: str = "float32", side: int = size, batch: int = batch,
        lam: int = 400, stride: int = 8, options: dict[str, Any] = options,
    ) -> list[Row]:  # fmt: skip
        import jax
        import jax.numpy as jnp
        import numpy as np

        from cxrjax import models
        from cxrjax.ops import diffusion, guidance, sampling

        net, schedule, evaluations = models.build(name, **options, dtype=dtype), diffusion.linear(), -(-lam // stride)
        image = np.random.default_rng(0).random((batch, side, side, 1), np.float32)
        variables = jax.jit(net.init)(jax.random.key(0), image[:1], jnp.zeros(1))
        parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))

        def walk(variables: Any, image: Any, lam: Any, keys: Any) -> Any:
            return guidance.treat(
                lambda x, index: net.apply(variables, x, index)[0], schedule, image, jnp.ones_like(image), lam, keys,
                mode="uniform", sampler=sampling.Sampler(stride=stride),
            )  # fmt: skip

        inputs = (jax.device_put(image), jnp.full(batch, lam), jax.random.split(jax.random.key(1), batch))
        ours = compiled(walk, variables, *inputs, items=batch, dtype=dtype, times=evaluations)
        variants = {}
        if peer:
            from benches import torch_side

            times = [lam * i // evaluations for i in range(evaluations, -1, -1)]
            signal = np.asarray(schedule.log_alpha_bar, np.float64)
            build = partial(_walked, options, image, signal, times, dtype, parameters)
            variants = torch_side.variants(", channels last", build, batch, dtype, ours.flops, peer)
        words = f"{batch} films of {side} px, lambda {lam}, {evaluations} evaluations, {dtype}"
        variants[f"cxrjax: {words}"] = ours
        return rates(variants, repeats, "films/s")

    words = f"{batch} films of {size} px treated from lambda 400 by 50 evaluations of {name}; --peer puts torch beside."
    return Case(
        measure, words, {**networks.TINY, "lam": 4, "stride": 2}, "torch", ("peer", "dtype"), card
    )  # fmt: skip


def _walked(
    options: dict[str, Any], image: Any, log_alpha_bar: Any, times: list[int], dtype: str, parameters: int, wrap: Any
) -> Callable[[], None]:
    """`treat`'s walk in torch: ancestral steps of the larger variance between used times, the film's estimate cut."""
    import itertools
    import math

    import torch

    from benches import torch_side

    torch.manual_seed(0)
    place = torch_side.device()
    net = networks.unet(options, image.shape[1]).to(place, memory_format=torch.channels_last).eval()
    torch_side.check_count(torch_side.count(net), parameters)
    look, films = wrap(net), 2 * torch.from_numpy(image).to(place).permute(0, 3, 1, 2) - 1
    films = films.contiguous(memory_format=torch.channels_last)

    def call() -> None:
        with torch.inference_mode(), torch_side.lower_precision(dtype):
            first = log_alpha_bar[times[0]]
            x = math.exp(first / 2) * films + math.sqrt(-math.expm1(first)) * torch.randn_like(films)
            for t, s in itertools.pairwise(times):
                log_t, log_s = log_alpha_bar[t], log_alpha_bar[s]
                beta, noise_t, noise_s = -math.expm1(log_t - log_s), -math.expm1(log_t), -math.expm1(log_s)
                epsilon = look(x, torch.full((len(x),), t - 1.0, device=place)).float()
                film = ((x - math.sqrt(noise_t) * epsilon) / math.exp(log_t / 2)).clamp(-1, 1)
                x = math.exp(log_s / 2) * beta / noise_t * film + math.exp((log_t - log_s) / 2) * noise_s / noise_t * x
                if s:
                    x = x + math.sqrt(beta) * torch.randn_like(x)

    return call


CASES = {
    "gan": Case(
        gan, "Five batches of the paper's GAN, with one update of its generator; --peer puts torch beside.",
        {"size": 32, "features": 8, "batch": 2}, "torch", ("peer", "dtype"),
    ),
    "treat": treat(64, 4, "unet_tiny", networks.UNET, False),
    "treat_paper": treat(256, 8, "unet", networks.PAPER, True),
    "grid": Case(
        grid, "A step of 24 grid cells (12 learning rates, 2 momenta): in turn, and together under vmap.",
        {"size": 8, "batch": 8},
    ),
}  # fmt: skip
