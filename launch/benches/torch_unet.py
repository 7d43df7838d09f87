"""The U-Net of `models/unet.py` in torch, for `bench.py --peer=torch`: the same layers, and as many parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, inputs: int, features: int, emb: int, groups: int, resample: str = "") -> None:
        super().__init__()
        self.resample = resample
        self.norm1, self.norm2 = nn.GroupNorm(groups, inputs), nn.GroupNorm(groups, features)
        self.conv1, self.conv2 = nn.Conv2d(inputs, features, 3, padding=1), nn.Conv2d(features, features, 3, padding=1)
        self.time = nn.Linear(emb, features)
        self.skip = nn.Conv2d(inputs, features, 1) if inputs != features else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        y = functional.silu(self.norm1(x))
        if self.resample == "down":
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
        elif self.resample == "up":
            x, y = (functional.interpolate(a, scale_factor=2.0, mode="nearest") for a in (x, y))
        y = self.conv1(y) + self.time(functional.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(functional.silu(self.norm2(y)))


class Attention(nn.Module):
    def __init__(self, features: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(groups, features)
        self.qkv, self.proj = nn.Conv1d(features, 3 * features, 1), nn.Conv1d(features, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x).reshape(b, c, h * w)).reshape(b, self.heads, 3, c // self.heads, h * w)
        q, k, v = (a.transpose(-1, -2).contiguous() for a in qkv.unbind(2))
        y = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c, h * w)
        return x + self.proj(y).reshape(b, c, h, w)


class Attended(nn.Module):
    """A block and the attention that follows it."""

    def __init__(self, block: Block, attention: nn.Module) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.block(x, emb))


class UNet(nn.Module):
    """As `cxrjax.models.unet.UNet` of one channel with `updown="block"`."""

    def __init__(
        self, base: int, mults: tuple[int, ...], num_res_blocks: int, groups: int, heads: int,
        attention: tuple[int, ...] = (), side: int = 0,
    ) -> None:  # fmt: skip
        """`attention` names the sides of maps after whose blocks it follows, of films of `side` pixels."""
        super().__init__()

        widths, emb = [base * m for m in mults], 4 * base
        self.base, self.last = base, len(widths) - 1
        self.embed = nn.Sequential(nn.Linear(base, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.stem, self.norm = nn.Conv2d(1, base, 3, padding=1), nn.GroupNorm(groups, base)
        self.out = nn.Conv2d(base, 1, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        now, skips = base, [base]
        for i, width in enumerate(widths):
            for resample in [""] * num_res_blocks + ["down"] * (i < self.last):
                block = Block(now, width, emb, groups, resample)
                sees = not resample and side >> i in attention
                self.down.append(Attended(block, Attention(width, heads, groups) if sees else nn.Identity()))
                now = width
                skips.append(now)
        self.middle = nn.ModuleList([Block(now, now, emb, groups), Block(now, now, emb, groups)])
        self.attention = Attention(now, heads, groups)
        for i, width in reversed(list(enumerate(widths))):
            for _ in range(num_res_blocks + 1):
                block = Block(now + skips.pop(), width, emb, groups)
                see = Attention(width, heads, groups) if side >> i in attention else nn.Identity()
                self.up.append(Attended(block, see))
                now = width
            if i > 0:
                self.up.append(Attended(Block(now, now, emb, groups, "up"), nn.Identity()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.base // 2
        angles = t[:, None] * torch.exp(-math.log(1e4) / half * torch.arange(half, device=t.device))
        emb = self.embed(torch.cat([angles.sin(), angles.cos()], -1))
        x = self.stem(x)
        skips = [x]
        for block in self.down:
            x = block(x, emb)
            skips.append(x)
        x = self.middle[1](self.attention(self.middle[0](x, emb)), emb)
        for block in self.up:
            x = block(x if block.block.resample else torch.cat([x, skips.pop()], 1), emb)
        return self.out(functional.silu(self.norm(x)))
