"""The networks of `models/cgan.py` in torch, and five batches of their alternation: as many layers and parameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from benches import torch_side

FIRST = 4


def _conv(inputs: int, features: int, kernel: int = 3, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, features, kernel, padding=kernel // 2, bias=bias)


class Gated(nn.Module):
    """3x3 convolution, BatchNorm, GLU; of the map's nearest doubling where it is told so."""

    def __init__(self, inputs: int, features: int, doubled: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.doubled = _conv(inputs, 2 * features), nn.BatchNorm2d(2 * features), doubled

    def forward(self, x: Tensor) -> Tensor:
        if self.doubled:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return functional.glu(self.norm(self.conv(x)), 1)


class Residual(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.conv, self.norm = (
            Gated(features, features),
            _conv(features, features),
            nn.BatchNorm2d(features),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(self.first(x)))


class Attention(nn.Module):
    def __init__(self, features: int, bottleneck: int = 8) -> None:
        super().__init__()
        inner = max(features // bottleneck, 1)
        self.f, self.g = _conv(features, inner, 1, True), _conv(features, inner, 1, True)
        self.h = _conv(features, features, 1, True)

    def forward(self, x: Tensor, tau: float) -> Tensor:
        query, key, value = (
            conv(x).flatten(2).transpose(1, 2)[:, None].contiguous() for conv in (self.g, self.f, self.h)
        )
        y = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + tau * y[:, 0].transpose(1, 2).reshape(x.shape)


class Generator(nn.Module):
    def __init__(self, sizes: Sequence[int], features: int, latent: int, residuals: int = 2) -> None:
        super().__init__()
        doublings = round(math.log2(sizes[0] / FIRST))
        width = features * 2**doublings
        self.stem = nn.Linear(latent, FIRST * FIRST * width * 2, bias=False)
        self.stem_norm = nn.BatchNorm1d(FIRST * FIRST * width * 2)
        self.ups = nn.Sequential(*(Gated(width // 2**i, width // 2 ** (i + 1), True) for i in range(doublings)))
        self.attention, now = Attention(features), features
        self.films, self.joins, self.branches = nn.ModuleList([_conv(now, 1)]), nn.ModuleList(), nn.ModuleList()
        for _ in sizes[1:]:
            self.joins.append(Gated(now + latent, now))
            self.branches.append(nn.Sequential(*(Residual(now) for _ in range(residuals)), Gated(now, now // 2, True)))
            now //= 2
            self.films.append(_conv(now, 1))

    def forward(self, code: Tensor) -> list[Tensor]:
        x = functional.glu(self.stem_norm(self.stem(code)), 1)
        x = self.attention(self.ups(x.reshape(len(x), -1, FIRST, FIRST)), 0.0)
        films = [self.films[0](x)]
        for join, branch, film in zip(self.joins, self.branches, self.films[1:], strict=True):
            tiled = code[:, :, None, None].expand(-1, -1, *x.shape[2:])
            x = branch(join(torch.cat([x, tiled.to(x.dtype)], 1)))
            films.append(film(x))
        return [torch.tanh(film.float()) for film in films]


class Discriminator(nn.Module):
    def __init__(self, size: int, first: int, features: int, classes: int) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, pad: int = 1) -> nn.Module:
            return spectral_norm(nn.Conv2d(inputs, outputs, kernel, stride, pad))

        halvings, top = round(math.log2(size / FIRST)), features * 2 ** (round(math.log2(first / FIRST)) - 1)
        widths = [1, *(features * 2**i for i in range(halvings))]
        layers = [conv(a, b, 4, 2) for a, b in itertools.pairwise(widths)]
        now = widths[-1]
        while now > top:
            layers.append(conv(now, now // 2, 3))
            now //= 2
        self.layers, self.join = nn.ModuleList(layers), conv(top + classes, top, 3)
        self.score, self.together = conv(top, 1, FIRST, FIRST, 0), conv(top, 1, FIRST, FIRST, 0)

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        tiled = c[:, :, None, None].expand(-1, -1, *x.shape[2:]).to(x.dtype)
        y = functional.leaky_relu(self.join(torch.cat([x, tiled], 1)), 0.2)
        return self.score(x).float(), self.together(y).float()


def five(
    wrap: torch_side.Wrap, image: Any, condition: Any, sizes: Sequence[int], features: int, latent: int, dtype: str,
    parameters: int,
) -> Callable[[], None]:  # fmt: skip
    """Five batches: each updates all discriminators, the fifth the generator and its average too.

    Args:
      wrap: of the networks' calls.
      image: (b, s, s, 1) float32 in [0, 1], of the largest of `sizes`.
      condition: (b, k).
      sizes, features, latent: as of `cgan.Generator`; `latent` holds the condition.
      dtype: of the products.
      parameters: how many ours has.
    """
    torch.manual_seed(0)
    place = torch_side.device()
    c = torch.as_tensor(condition, dtype=torch.float32, device=place)
    films = [2 * torch.as_tensor(image, device=place).permute(0, 3, 1, 2).contiguous() - 1]
    while films[0].shape[-1] > sizes[0]:
        films.insert(0, functional.avg_pool2d(films[0], 2))
    g = Generator(sizes, features, latent).to(place)
    ds = [Discriminator(size, sizes[0], features, c.shape[1]).to(place) for size in sizes]
    torch_side.check_count(torch_side.count(g, *ds), parameters)
    average = [p.detach().clone() for p in g.parameters()]
    adam = {"lr": 2e-5, "betas": (0.5, 0.999)}
    own, others = torch.optim.Adam(g.parameters(), **adam), [torch.optim.Adam(d.parameters(), **adam) for d in ds]
    make, looks = wrap(g), [wrap(d) for d in ds]

    def code() -> Tensor:
        return torch.cat([torch.randn(len(c), latent - c.shape[1], device=place), c], 1)

    def toward(scores: tuple[Tensor, ...], rows: slice, target: float) -> Tensor:
        return sum((0.5 * (score[rows] - target).square().mean() for score in scores), torch.zeros((), device=place))

    def discriminate() -> None:
        with torch.no_grad(), torch_side.lower_precision(dtype):
            made = make(code())
        for look, real, fake, optimizer in zip(looks, films, made, others, strict=True):
            optimizer.zero_grad()
            with torch_side.lower_precision(dtype):
                scores = look(torch.cat([real, fake]), torch.cat([c, c]))
            (toward(scores, slice(0, len(c)), 1.0) + toward(scores, slice(len(c), None), 0.0)).backward()
            optimizer.step()

    def generate() -> None:
        for d in ds:
            d.eval().requires_grad_(False)  # their spectral vectors stay
        own.zero_grad()
        with torch_side.lower_precision(dtype):
            found = [look(fake, c) for look, fake in zip(looks, make(code()), strict=True)]
        torch.stack([toward(scores, slice(None), 1.0) for scores in found]).sum().backward()
        own.step()
        torch._foreach_lerp_(average, [p.detach() for p in g.parameters()], 1e-3)
        for d in ds:
            d.train().requires_grad_(True)

    def call() -> None:
        for turn in range(1, 6):
            discriminate()
            if turn == 5:
                generate()

    return call
