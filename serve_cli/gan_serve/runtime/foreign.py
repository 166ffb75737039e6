"""An ONNX file that says nothing of itself: what its inputs and outputs show, and what the user says of it.

Names, types and shapes are enough for most generators: a latent of floats and, maybe, a class, to an image. The rest is
an option (`OnnxAnswers`), or assumed, and then said: each assumption is one sentence. No onnxruntime here; what a trial
batch tells, `probe` finds out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gan_core.errors import ContractError
from gan_core.files.metadata import Dims, Port
from gan_core.image_input import IMAGE_CHANNELS
from gan_core.said import UNSAID, Inputs, OnnxAnswers, size_text
from gan_serve.runtime import Constant, Signature

FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
WHOLE = {"tensor(int64)": "int64", "tensor(int32)": "int32"}
IMAGES = FLOATS | {"tensor(uint8)": "uint8"}
HINT = "name the generator's file; gan-export onnx makes one from a checkpoint"

_CLASS_NAME = re.compile(r"label|class|cond|one_?hot|categor|digit|^[cy]$", re.IGNORECASE)
_LEAST_SIDE = 8
"""Of what is taken for an image though its shape alone does not say so."""

Layout = Literal["NCHW", "NHWC", "flat"]


@dataclass(frozen=True)
class Understood:
    """What a stranger's file is, as far as its ports show. `n_classes` None: no class input, or not shown yet.

    Frozen; `assumptions` are those so far.
    """

    signature: Signature
    n_classes: int | None
    assumptions: tuple[str, ...]


def understand(inputs: Sequence[Port], outputs: Sequence[Port], answers: OnnxAnswers, where: str) -> Understood:
    """What a generator without metadata takes and gives.

    Raises `ContractError`, with what the file seems to be, when it is no generator that can be fed.
    """
    constants = _constants(inputs, answers, where)
    free = [port for port in inputs if port.name not in dict(answers.constants)]
    if answers.inputs is None:
        latent, label = _by_look(free, outputs, where)
    else:
        latent, label = _by_name(free, answers.inputs, where)
    image = _image_output(outputs, answers, where)
    z_shape = _z_shape(latent, answers.z_dim, where)
    signature = Signature(latent.name, z_shape, image.name, z_dtype=FLOATS[latent.type], constants=constants)
    assumed = [] if answers.latent else [f"{latent.name} is a latent whose components are N(0, 1)"]
    n_classes = None
    if label is not None:
        one_hot = label.type in FLOATS
        signature = replace(
            signature,
            label=label.name,
            label_dtype=(FLOATS | WHOLE)[label.type],
            label_shape=() if one_hot else (1,) * (len(label.dims) - 1),
        )
        if one_hot:
            n_classes = label.dims[1] or answers.n_classes
            if answers.inputs is None:
                assumed.append(f"{label.name} is a class, one-hot")
    used = [latent.dims, *([label.dims] if label else [])]
    batch = next((dims[0] for dims in used if dims[0] is not None), None)
    if not layout_of(image.dims, answers.image) and _is_single(image.dims, answers.image):
        signature, batch = replace(signature, single=True), 1
    return Understood(replace(signature, fixed_batch=batch), n_classes, tuple(assumed))


def _constants(inputs: Sequence[Port], answers: OnnxAnswers, where: str) -> tuple[Constant, ...]:
    ports = {port.name: port for port in inputs}
    found = []
    for name, value in answers.constants:
        port = _named(name, inputs, where, "takes")
        kind = (FLOATS | WHOLE | {"tensor(bool)": "bool"}).get(port.type)
        if kind is None or any(side is None for side in port.dims[1:]):
            raise ContractError(
                f"{where}: {port} of {port.type} cannot be one number for every image",
                hint="numbers and truth values of known sizes can",
            )
        found.append(Constant(name, kind, ports[name].dims, value))
    return tuple(found)


def _named(name: str, ports: Iterable[Port], where: str, verb: str) -> Port:
    every = list(ports)
    for port in every:
        if port.name == name:
            return port
    raise ContractError(f"{where} {verb} no {name!r}", hint=f"it {verb} {_listed(every)}")


def _by_name(ports: Sequence[Port], inputs: Inputs, where: str) -> tuple[Port, Port | None]:
    """The latent and the class as the user names them, by position where he gives no names."""
    if len(inputs) != len(ports) and any(name is None for _, name in inputs):
        raise _several(ports, where)
    roles = {
        role: ports[index] if name is None else _named(name, ports, where, "takes")
        for index, (role, name) in enumerate(inputs)
    }
    unsaid = [port for port in ports if port not in roles.values()]
    if unsaid or len({port.name for port in roles.values()}) < len(roles):
        raise _several(ports, where)
    latent, label = roles["z"], roles.get("label")
    if latent.type not in FLOATS or len(latent.dims) < 2:
        raise ContractError(
            f"{where}: {latent} of {latent.type} is no latent, expected floats (batch, D)",
            hint=f"it takes {_listed(ports)}",
        )
    if label is not None and not (_is_class(label) or _is_one_hot(label)):
        raise ContractError(
            f"{where}: {label} of {label.type} is no class, expected integers (batch) or floats (batch, classes)",
            hint=f"it takes {_listed(ports)}",
        )
    return latent, label


def _by_look(ports: Sequence[Port], outputs: Sequence[Port], where: str) -> tuple[Port, Port | None]:
    """The latent and the class, where types, shapes and names leave no doubt."""
    floats = [port for port in ports if port.type in FLOATS]
    others = [port for port in ports if port not in floats]
    if len(ports) == 1 and not floats:
        raise ContractError(f"{where} is not a generator: it takes {ports[0].type} {_listed(ports)}", hint=HINT)
    if len(floats) == 1 and (not others or (len(others) == 1 and _is_class(others[0]))):
        _check_latent(floats[0], ports, outputs, where)
        return floats[0], others[0] if others else None
    if len(floats) == 2 and not others:
        classes = [port for port in floats if _CLASS_NAME.search(port.name) and _is_one_hot(port)]
        if len(classes) == 1:
            (latent,) = [port for port in floats if port not in classes]
            _check_latent(latent, ports, outputs, where)
            return latent, classes[0]
    if not ports:
        raise ContractError(f"{where} takes nothing, expected a latent (batch, D)", hint=HINT)
    raise _several(ports, where)


def _is_class(port: Port) -> bool:
    return port.type in WHOLE and len(port.dims) >= 1 and all(side == 1 for side in port.dims[1:])


def _is_one_hot(port: Port) -> bool:
    return port.type in FLOATS and len(port.dims) == 2


def _several(ports: Sequence[Port], where: str) -> ContractError:
    """The error of inputs whose meaning does not show, with words that say it for these."""
    latent = next((port for port in ports if port.type in FLOATS and len(port.dims) > 1), None)
    if latent is None:
        return ContractError(f"{where} takes {_listed(ports)}, none of them a latent", hint=HINT)
    label = next((port for port in ports if port is not latent and (_is_class(port) or _is_one_hot(port))), None)
    inputs = f"{latent.name}=z" + (f",{label.name}=label" if label else "")
    rest = [port.name for port in ports if port is not latent and port is not label]
    fixed = "".join(f', `constant="{name}=1"`' for name in rest)
    return ContractError(
        f"{where} takes {_listed(ports)}, and does not say which is what",
        hint=f'`inputs="{inputs}"`{fixed}: which is the latent, which the class, and numbers for the others',
        code=UNSAID,
    )


def _check_latent(port: Port, ports: Sequence[Port], outputs: Sequence[Port], where: str) -> None:
    """Raises `ContractError` for an input that is an image or a sequence by its shape."""
    takes, gives = _listed(ports), _listed(outputs)
    sides = [side for side in port.dims[1:] if side != 1]
    if len(port.dims) == 4 and len(sides) > 1:
        images_out = any(len(output.dims) == 4 for output in outputs)
        what = "an image-to-image network" if images_out else "a classifier or discriminator"
        raise ContractError(f"{where} looks like {what}, not a generator: {takes} to {gives}", hint=HINT)
    if len(port.dims) < 2 or len(sides) > 1:
        raise ContractError(f"{where} takes {takes}, expected a latent (batch, D) or (batch, D, 1, 1)", hint=HINT)


def _z_shape(port: Port, z_dim: int | None, where: str) -> tuple[int, ...]:
    """The shape of one latent; `z_dim` says the one number that the file leaves open."""
    open_sides = port.dims[1:].count(None)
    known = math.prod(side for side in port.dims[1:] if side is not None)
    if open_sides > 1 or (open_sides and z_dim is None):
        raise ContractError(
            f"{where} does not say how long its latent is: {port}", hint="`z_dim=100` for 100 numbers", code=UNSAID
        )
    if z_dim is not None and (z_dim % known if open_sides else z_dim != known):
        raise ContractError(f"{where} takes {port}, which is no latent of {z_dim} numbers", hint="leave `z_dim` out")
    return tuple((z_dim or known) // known if side is None else side for side in port.dims[1:])


def layout_of(dims: Dims, image: tuple[int, int, int] | None) -> Layout | None:
    """How an output of shape `dims` (None: not known yet) holds images, of the size `image` where that is said.

    None where it holds none. What is not known yet may turn out to be another.
    """
    sides = dims[1:]
    if image is None:
        if len(sides) != 3:
            return None
        return "NCHW" if sides[0] in IMAGE_CHANNELS else "NHWC" if sides[2] in IMAGE_CHANNELS else None
    c, h, w = image
    for layout, wanted in (("NCHW", (c, h, w)), ("NHWC", (h, w, c))):
        if len(sides) == 3 and all(side in (None, want) for side, want in zip(sides, wanted, strict=True)):
            return "NCHW" if layout == "NCHW" else "NHWC"
    known = math.prod(side for side in sides if side is not None)
    return "flat" if (known == c * h * w if None not in sides else sides and (c * h * w) % known == 0) else None


def _is_single(dims: Dims, image: tuple[int, int, int] | None) -> bool:
    """Whether an output of shape `dims` is one image, (C, H, W) or (H, W, C), without an axis for the batch."""
    layout = None if None in dims or len(dims) != 3 else layout_of((1, *dims), image)
    sides = {"NCHW": dims[1:], "NHWC": dims[:2]}.get(layout or "", (0,))
    return all(side is not None and side >= _LEAST_SIDE for side in sides)


def _image_output(outputs: Sequence[Port], answers: OnnxAnswers, where: str) -> Port:
    """The output that is the image. One whose sizes are not known is taken where no other can be."""
    ports = [port for port in outputs if port.type in IMAGES and len(port.dims) >= 2 and 0 not in port.dims]
    if answers.output_key is not None:
        port = _named(answers.output_key, outputs, where, "gives")
        if port not in ports:
            raise ContractError(
                f"{where}: {port} of {port.type} holds no images, expected numbers (batch, …)",
                hint=f"it gives {_listed(outputs)}",
            )
        ports = [port]
    sure = [port for port in ports if layout_of(port.dims, answers.image)]
    sure = sure or [port for port in ports if _is_single(port.dims, answers.image)]
    if sure:
        return max(sure, key=lambda port: math.prod(side or 1 for side in port.dims[1:]))
    possible = [port for port in ports if None in port.dims[1:]]
    if possible:
        return max(possible, key=lambda port: len(port.dims))
    raise no_images(ports or outputs, answers, where)


def no_images(outputs: Sequence[Port], answers: OnnxAnswers, where: str) -> ContractError:
    """The error of outputs that are no images of the size that was said, or of none."""
    gives = _listed(outputs)
    if answers.image is not None:
        size = size_text(answers.image)
        return ContractError(f"{where} gives {gives}: no images of {size}", hint="leave `image` out, or correct it")
    for port in outputs:
        sizes = _squares(port.dims[1:]) if port.type in IMAGES else ()
        if sizes:
            return ContractError(
                f"{where} gives {gives}: numbers without the size of an image",
                hint=" or ".join(f'`image="{size_text(size)}"`' for size in sizes) + " if that is what they are",
                code=UNSAID,
            )
    return ContractError(
        f"{where} gives no images (batch, C, H, W) of {', '.join(map(str, IMAGE_CHANNELS))} channels: {gives}",
        hint=HINT,
    )


def _squares(sides: Dims) -> tuple[tuple[int, int, int], ...]:
    """The sizes of square images, grey or RGB, that a flat output of these sides may hold; (H, W) is a grey one."""
    if not sides or any(side is None for side in sides):
        return ()
    if len(sides) == 2 and sides[0] and sides[1] and min(sides[0], sides[1]) >= _LEAST_SIDE:
        return ((1, sides[0], sides[1]),)
    if sum(side != 1 for side in sides) > 1:
        return ()
    total = math.prod(side or 0 for side in sides)
    found = [(c, math.isqrt(total // c)) for c in (1, 3)]
    return tuple((c, side, side) for c, side in found if c * side * side == total and side >= _LEAST_SIDE)


def _listed(ports: Iterable[Port]) -> str:
    return " and ".join(map(str, ports)) or "nothing"
