"""Makes `fixtures/*.safetensors`: small torchvision and torchxrayvision networks, random weights, torch's logits.

Needs torch, torchvision and torchxrayvision. Each file holds a state dict in half precision (the network was rounded to
it first, so nothing is lost), and under `fixture.input` and `fixture.logits` a batch and what torch makes of it.

    python tests/weights/make_fixtures.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

FOLDER = Path(__file__).parent / "fixtures"


def films(n: int, channels: int, size: int, seed: int = 1) -> torch.Tensor:
    """Smooth random fields with a little noise, as different in brightness and contrast as films are.

    Of white noise alone a deep network sees nearly the same everywhere, and its BatchNorms blow up rounding errors.
    """
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, channels, 5, 5, generator=draw)
    smooth = nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    gain, shift = 1 + torch.rand(n, 1, 1, 1, generator=draw), torch.randn(n, channels, 1, 1, generator=draw)
    return gain * smooth + shift + 0.2 * torch.randn(n, channels, size, size, generator=draw)


@torch.no_grad()
def randomize(net: nn.Module, x: torch.Tensor, seed: int = 0) -> nn.Module:
    """Random weights, biases, scales and running statistics, such that activations stay near one; in eval mode.

    Each layer's statistics are those of what reaches it, then moved at random: wholly random ones let the activations
    of a deep network explode. Training mode, so that auxiliary heads are reached.
    """
    torch.manual_seed(seed)

    def observe(norm: nn.BatchNorm2d, args: tuple[torch.Tensor]) -> None:
        var, mean = torch.var_mean(args[0], dim=(0, 2, 3))
        var = var.clamp(min=0.1 * var.mean())
        norm.running_mean.copy_(mean + 0.2 * var.sqrt() * torch.randn_like(mean))
        norm.running_var.copy_(var * torch.empty_like(var).uniform_(0.5, 2.0))

    net.train()
    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.5, 0.2)  # above zero: a ReLU that mostly passes amplifies rounding less
            hooks.append(module.eval().register_forward_pre_hook(observe))
    for module in net.modules():
        if hasattr(module, "downsample"):  # a residual block adds a little to its input, as trained ones do
            nn.init.uniform_((module.bn3 if hasattr(module, "bn3") else module.bn2).weight, 0.1, 0.4)
    net(x)
    for hook in hooks:
        hook.remove()
    return net.eval()


def narrow_resnet(block: type[nn.Module], blocks: list[int], num_classes: int) -> nn.Module:
    """torchvision's ResNet at an eighth of its widths, in three channels."""
    from torchvision.models.resnet import ResNet

    class Narrow(ResNet):
        def _make_layer(self, block: Any, planes: int, blocks: int, *args: Any, **kwargs: Any) -> nn.Sequential:
            if planes == 64:
                self.inplanes = 8
                self.conv1 = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
                self.bn1 = nn.BatchNorm2d(8)
            return super()._make_layer(block, planes // 8, blocks, *args, **kwargs)

    net = Narrow(block, blocks)
    net.fc = nn.Linear(64 * block.expansion, num_classes)
    return net


def small_vgg(num_classes: int) -> nn.Module:
    from torchvision.models.vgg import VGG, make_layers

    net = VGG(make_layers([4, "M", 8, 8, "M"]))
    net.classifier[0], net.classifier[3] = nn.Linear(8 * 49, 16), nn.Linear(16, 12)
    net.classifier[6] = nn.Linear(12, num_classes)
    return net


def narrow_inception(num_classes: int) -> nn.Module:
    """torchvision's Inception-v3 at a sixteenth of its widths, rounded to even numbers."""
    from torchvision.models import inception as tv

    def scaled(width: int) -> int:
        return max(2, 2 * round(width / 32))

    class Conv(tv.BasicConv2d):
        def __init__(self, in_channels: int, out_channels: int, **kwargs: Any) -> None:
            super().__init__(in_channels if in_channels == 3 else scaled(in_channels), scaled(out_channels), **kwargs)

    def of(cls: Any) -> Callable[..., nn.Module]:
        return lambda *args, **kwargs: cls(*args, conv_block=Conv, **kwargs)

    blocks = [Conv, *map(of, (tv.InceptionA, tv.InceptionB, tv.InceptionC, tv.InceptionD, tv.InceptionE))]
    net = tv.Inception3(num_classes, inception_blocks=[*blocks, of(tv.InceptionAux)], init_weights=False)
    net.fc, net.AuxLogits.fc = nn.Linear(128, num_classes), nn.Linear(48, num_classes)
    net.aux_logits = False  # at 75 px its input is smaller than its first pool
    aux, net.AuxLogits = net.AuxLogits, None
    x = films(8, 3, 75, seed=2)
    randomize(net, x)
    for module in aux.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    net.AuxLogits = aux
    return net


@torch.no_grad()
def write(
    name: str, net: nn.Module, size: int, channels: int, batch: int = 2, more: dict[str, torch.Tensor] | None = None
) -> None:
    from safetensors.torch import save_file

    net = net.half().float().eval()
    x = films(batch, channels, size).half()
    state = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    if getattr(net, "AuxLogits", None) is not None:  # not read in evaluation, and too small a map at this size
        net.AuxLogits = None
    logits = net(x.float())
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.safetensors"
    tensors = {**state, **(more or {}), "fixture.input": x, "fixture.logits": logits}
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    path.chmod(0o644)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, logits of std {logits.std():.2f}")


def main() -> None:
    import torchxrayvision as xrv
    from torchvision.models.densenet import DenseNet
    from torchvision.models.resnet import BasicBlock, Bottleneck

    small = {"growth_rate": 8, "block_config": (1, 2), "num_init_features": 12, "bn_size": 2, "num_classes": 5}
    x1, x3 = films(8, 1, 64, seed=2), films(8, 3, 64, seed=2)
    write("densenet", randomize(DenseNet(**small), x3), 64, 3)
    # Published files carry the operating points, which act on probabilities, after the logits compared here.
    points = {"op_threshs": torch.full((5,), 0.5)}
    write("densenet_xrv", randomize(xrv.models.DenseNet(**small, in_channels=1), x1), 64, 1, more=points)
    write("resnet_basic", randomize(narrow_resnet(BasicBlock, [2, 1, 1, 1], 5), x3), 64, 3)
    write("resnet_bottleneck", randomize(narrow_resnet(Bottleneck, [1, 1, 1, 1], 5), x3), 48, 3)
    write("vgg", randomize(small_vgg(5), x3[..., :28, :28]), 28, 3)
    write("inception", narrow_inception(5), 75, 3, batch=1)


if __name__ == "__main__":
    main()
