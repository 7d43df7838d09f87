"""The cases of single operations, each in the forms that there are: products, attention, convolutions' gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from benches.timing import Case, Row, Timed, ceiling, compiled, rates


def matmul(repeats: int, *, side: int = 0) -> list[Row]:
    """The product of two square matrices, in float32 and in bfloat16: what `of matmul` is a share of."""
    return rates({f"cxrjax: {name}": ceiling(name, side) for name in ("float32", "bfloat16")}, repeats, "GFLOP/s")


def attention(repeats: int, *, positions: int = 4096, batch: int = 2) -> list[Row]:
    """Values and gradients of self-attention on a 64x64 map by the formula, and by blocks of queries."""
    import jax

    from cxrjax.ops import attention as ops

    inputs = [jax.random.normal(jax.random.key(i), (batch, positions, d)) for i, d in enumerate((8, 8, 64))]
    return rates(
        {
            f"{name}, {batch} maps of {positions} positions": _with_gradients(form, inputs, batch, "float32")
            for name, form in (("dense", ops.dense), ("blockwise", ops.blockwise))
        },
        repeats, "maps/s",
    )  # fmt: skip


def heads(repeats: int, *, side: int = 32, batch: int = 8, width: int = 128, dtype: str = "float32") -> list[Row]:
    """Values and gradients of a U-Net's attention of two heads: jax's own, the form that is taken, blocks of 128."""
    import jax
    import jax.numpy as jnp

    from cxrjax.ops import attention as ops

    def blocks(q: Any, k: Any, v: Any) -> Any:
        rows = (x.swapaxes(1, 2).reshape(-1, side**2, width) for x in (q * width**-0.25, k * width**-0.25, v))
        return ops.blockwise(*rows)

    inputs = [jax.random.normal(key, (batch, side**2, 2, width), jnp.dtype(dtype))
              for key in jax.random.split(jax.random.key(0), 3)]  # fmt: skip
    taken = "cuDNN" if ops.fuses(inputs[0]) else "up to 2^20 pairs at a time"
    forms = {
        "jax.nn": partial(ops.fused, implementation="xla"), f"cxrjax ({taken})": ops.attend, "blocks of 128": blocks
    }  # fmt: skip
    words = f"{batch} maps of {side}x{side}, 2 heads of {width}, {dtype}"
    return rates(
        {f"{name}: {words}": _with_gradients(form, inputs, batch, dtype) for name, form in forms.items()},
        repeats, "maps/s",
    )  # fmt: skip


def _with_gradients(form: Callable[..., Any], inputs: list[Any], batch: int, dtype: str) -> Timed:
    import jax
    import jax.numpy as jnp

    def objective(*qkv: Any) -> Any:
        return jnp.square(form(*qkv).astype(jnp.float32)).sum()

    return compiled(jax.value_and_grad(objective, argnums=(0, 1, 2)), *inputs, items=batch, dtype=dtype)


def cond(repeats: int, *, side: int = 32, channels: int = 32, batch: int = 16) -> list[Row]:
    """Gradients of four convolutions inside `lax.cond`: jax's own, and those of `ops.convolution`."""
    import jax
    import jax.numpy as jnp

    from cxrjax.ops.convolution import DIMENSIONS, convolve

    pad = ((1, 1), (1, 1))
    x = jax.random.normal(jax.random.key(0), (batch, side, side, channels))
    kernels = [0.1 * jax.random.normal(jax.random.key(i), (3, 3, channels, channels)) for i in range(4)]

    def theirs(x: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), pad, dimension_numbers=DIMENSIONS)

    def ours(x: Any, kernel: Any) -> Any:
        return convolve(x, kernel, (1, 1), pad)

    def branch(conv: Callable[..., Any]) -> Callable[..., Any]:
        def objective(kernels: Any) -> Any:
            y = x
            for kernel in kernels:
                y = jax.nn.relu(conv(y, kernel))
            return jnp.square(y).mean()

        return lambda kernels, turn: jax.lax.cond(turn, jax.grad(objective), lambda same: same, kernels)

    variants = {}
    for name, conv in (("jax.lax", theirs), ("cxrjax", ours)):
        timed = compiled(branch(conv), kernels, jnp.bool_(True), items=1)
        variants[f"{name}: gradients in a branch, {batch} maps of {side} px"] = timed
    return rates(variants, repeats, "gradients/s")


def kernel_gradient(side: int, width: int, features: int, batch: int) -> Case:
    """A case: the gradient of a 3x3 kernel at one shape, in each of its forms."""

    def measure(repeats: int, *, batch: int = batch, side: int = side) -> list[Row]:
        import jax
        import jax.numpy as jnp

        from cxrjax.ops import convolution

        stride, pad, shape = (1, 1), ((1, 1), (1, 1)), (3, 3, width, features)
        x, dy = (jax.random.normal(jax.random.key(0), (batch, side, side, c)) for c in (width, features))

        def plain(x: Any, dy: Any, *_: Any) -> Any:
            def convolved(kernel: Any) -> Any:
                return jax.lax.conv_general_dilated(x, kernel, stride, pad, dimension_numbers=convolution.DIMENSIONS)

            return jax.vjp(convolved, jnp.zeros(shape))[1](dy)[0]

        variants = {}
        for name, form in (
            ("jax.lax", plain),
            ("by film", convolution.by_film),
            ("as a convolution", convolution.by_convolution),
        ):
            work = 2 * math.prod(shape) * batch * side**2 / 1e9
            call: Any = lambda x, dy, form=form: form(x, dy, shape, stride, pad)  # noqa: E731
            timed = compiled(call, x, dy, items=work)._replace(flops=1e9 * work)
            variants[f"{name}, {batch} maps of {side} px, {width} to {features}"] = timed
        return rates(variants, repeats, "GFLOP/s")

    words = f"The gradient of a 3x3 kernel on {batch} maps of {side} px, {width} to {features}, in each form."
    return Case(measure, words, {"side": 8, "batch": 2})


CASES = {
    "matmul": Case(matmul, "The product of two square matrices, of which `of matmul` is a share.", {"side": 64}),
    "attention": Case(
        attention, "Values and gradients of self-attention on a 64x64 map by the formula, and by blocks of queries.",
        {"positions": 256, "batch": 1},
    ),
    "heads": Case(
        heads, "Values and gradients of a U-Net's attention of two heads in each form.",
        {"side": 4, "batch": 1, "width": 8}, options=("dtype",),
    ),
    "cond": Case(
        cond, "Gradients of four convolutions inside `lax.cond`: jax's own, and those of `ops.convolution`.",
        {"side": 8, "channels": 4, "batch": 2},
    ),
    **{
        f"kernel_gradient_{shape[0]}": kernel_gradient(*shape)
        for shape in ((64, 32, 32, 16), (32, 64, 64, 16), (16, 128, 128, 16), (56, 128, 32, 4), (28, 128, 32, 4),
                      (7, 512, 512, 4))
    },
}  # fmt: skip
