"""The cases of cost against work: the same at a tenth and in full, items a second; linear is a ratio of 1 or more."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benches import inputs, networks
from benches.timing import Case, Row, Timed, rates


def _decade(name: str, full: int, call: Callable[[int], Callable[[], Any]], repeats: int, unit: str) -> list[Row]:
    """`call(n)()` does the work of n."""
    sizes = [max(full // 10, 1), full]
    return rates({f"cxrjax, {n:,} {name}": Timed(call(n), n) for n in sizes}, repeats, unit)


def prepared(repeats: int, *, films: int = 2000, side: int = 64) -> list[Row]:
    """Films prepared: checked, resized, hashed and written as records."""
    import numpy as np

    def call(n: int) -> Callable[[], Any]:
        given = np.random.default_rng(n).integers(0, 256, (n, side, side), np.uint8)

        def prepare() -> None:
            with tempfile.TemporaryDirectory() as cache:
                inputs.as_records(given, Path(cache), side, limit=0.0)

        return prepare

    return _decade(f"films of {side} px prepared", films, call, repeats, "films/s")


def treated(
    repeats: int, *, films: int = 40, side: int = 32, lam: int = 40, options: dict[str, Any] = networks.UNET
) -> list[Row]:
    """Films treated by one arm, four rows at a time."""
    walk = _walk(side, lam, options)
    return _decade(f"films of {side} px treated", films, lambda n: lambda: walk(n, 1), repeats, "films/s")


def arms(
    repeats: int, *, arms: int = 10, side: int = 32, lam: int = 40, options: dict[str, Any] = networks.UNET
) -> list[Row]:
    """Arms that treat four films, in one program, four rows at a time."""
    walk = _walk(side, lam, options)
    return _decade(f"arms on 4 films of {side} px", arms, lambda n: lambda: walk(4, n), repeats, "arms/s")


def _walk(side: int, lam: int, options: dict[str, Any]) -> Callable[[int, int], Any]:
    """`(films, arms)` -> every film by every arm, from `lam` by eight evaluations."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cxrjax import defaults, models
    from cxrjax.infer import arms, diffusion, treat
    from cxrjax.infer.batches import in_batches
    from cxrjax.ops import diffusion as schedules
    from cxrjax.ops import guidance, noise
    from cxrjax.train import mesh as meshes

    net, mesh = models.build("unet_tiny", **options), meshes.make()
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, side, side, 1)), jnp.zeros(1))
    placed = meshes.replicate(mesh, {"unet": variables["params"]})
    trained = diffusion.Diffusion(net, schedules.linear(), "epsilon", "scalar", noise.gaussian, placed)
    modes = ("uniform", "noise_matrix", "time_gated", "mask_blend")  # those that are data of one program
    study = defaults.treatment(modes=modes, sampler={"stride": max(lam // 8, 1)})
    first = arms.of(study)[0]
    program = treat.compiled(treat.program_of(first), {first.diffusion: trained}, {})

    def walk(films: int, count: int) -> Any:
        n = films * count
        image = np.random.default_rng(0).random((n, side, side, 1), np.float32)
        code = [guidance.code(modes[arm % len(modes)]) for arm in range(count) for _ in range(films)]
        whole, keys = np.ones(n, np.int32), treat.keys_of(0, n)
        rows = treat.Rows(
            image, np.ones_like(image), np.ones_like(image), lam * whole, first.sampler.stride * whole,
            np.array(code, np.int32), keys,
        )  # fmt: skip
        return in_batches(mesh, 4, program, *rows)

    return walk


def bootstrapped(repeats: int, *, films: int = 22433, findings: int = 14, draws: int = 1000) -> list[Row]:
    """All figures of a classifier of findings, with their intervals, of patients of eight films."""
    import numpy as np

    from cxrjax.metrics import scoring

    def call(n: int) -> Callable[[], Any]:
        rng = np.random.default_rng(0)
        patients = rng.integers(0, max(n // 8, 2), n)
        label = (rng.random((n, findings)) < 0.05).astype(float)
        probability = 1 / (1 + np.exp(3 - 1.5 * label - rng.normal(size=label.shape)))
        names = [str(k) for k in range(findings)]
        return lambda: scoring.multilabel(label, probability, patients, names, draws=draws)

    return _decade(f"films x {findings} findings, {draws} resamples", films, call, repeats, "films/s")


def distance(repeats: int, *, films: int = 5859, features: int = 1024) -> list[Row]:
    """A Frechet distance of two sets of features; at a tenth there are fewer films than features."""
    import numpy as np

    from cxrjax.metrics import frechet

    def call(n: int) -> Callable[[], Any]:
        a, b = (np.random.default_rng(i).standard_normal((n, features)) for i in range(2))
        return lambda: frechet.distance(a, b)

    return _decade(f"x {features} features, Frechet distance", films, call, repeats, "films/s")


def nearest(repeats: int, *, films: int = 100_000, features: int = 256, asked: int = 64) -> list[Row]:
    """The nearest of many films to each of 64, as the study of generated films looks for them."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    def call(n: int) -> Callable[[], Any]:
        rng = np.random.default_rng(0)
        search = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(rng.random((n, features), np.float32))
        rows = rng.random((asked, features), np.float32)
        return lambda: search.kneighbors(rows)

    return _decade(f"films x {features}, the nearest to {asked}", films, call, repeats, "films/s")


_SMALL = {"side": 8, "lam": 8, "options": {"base": 8, "mults": (1,), "num_res_blocks": 1, "groups": 4, "heads": 2}}
CASES = {
    "growth_prepared": Case(prepared, "200 and 2,000 films prepared.", {"films": 20, "side": 32}),
    "growth_treated": Case(treated, "4 and 40 films treated by one arm.", {"films": 8, **_SMALL}),
    "growth_arms": Case(arms, "4 films treated by 1 and by 10 arms.", {"arms": 2, **_SMALL}),
    "growth_bootstrap": Case(
        bootstrapped, "All figures of 2,243 and of 22,433 films and 14 findings, with 1,000 resamples.",
        {"films": 400, "findings": 2, "draws": 10},
    ),
    "growth_frechet": Case(
        distance, "A Frechet distance of 585 and of 5,859 films with 1,024 features.", {"films": 40, "features": 4}
    ),
    "growth_nearest": Case(
        nearest, "The nearest of 10,000 and of 100,000 films to each of 64.", {"films": 100, "features": 4}
    ),
}  # fmt: skip
