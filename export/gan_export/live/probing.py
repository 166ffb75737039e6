"""Finds how a foreign forward is called: candidates from its signature, attributes and layers, then trying.

A way of calling it counts when a batch of 3 gives 3 images, different ones for different latents, and the first of them
alone is the same as among the others. (A batch of 2 can be taken for a pair of styles.) Networks that take an image are
refused: a super-resolver runs on one pixel as well, so that "a latent of 3 numbers" seems to work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_core.image_input import IMAGE_CHANNELS
from gan_core.latents import latents
from gan_core.process import quiet
from gan_export.answers import LiveAnswers
from gan_export.live.adapter import (
    LABEL_FORMS,
    ONE_HOT_FORMS,
    Call,
    Constant,
    LiveGenerator,
    Picked,
    ZShape,
    layout_of,
    parse_z_shape,
    parts,
    pick,
)
from gan_export.live.loading import HINT_CUDA, Code, asks_for_cuda, forward_error
from gan_export.live.signature import (
    Forward,
    class_counts,
    counts_beside,
    counts_taken,
    forward_of,
    given_inputs,
    latent_widths,
    possible_inputs,
    says_label,
)

HINT = (
    "of a network that takes an image, forward takes nothing else and makes one image, of the same size or whole times "
    "as large; if its input is noise all the same, say so: `z_shape` CxHxW"
)
_WEIGHTED = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)


def check_latent(module: nn.Module, call: Call, constants: Sequence[Constant], label: str) -> None:
    """Raises `GanportError` when the layer of `module` that runs first, called as `call` says, takes an image."""
    first: list[tuple[nn.Module, tuple[int, ...]]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not first and inputs and isinstance(inputs[0], Tensor):
            first.append((layer, tuple(inputs[0].shape[1:])))

    handles = [part.register_forward_pre_hook(note) for part in module.modules() if isinstance(part, _WEIGHTED)]
    try:
        z = torch.from_numpy(latents(range(2), call.z_dim))
        labels = torch.zeros(2, dtype=torch.int64) if call.n_classes else None
        with torch.no_grad(), quiet():
            LiveGenerator(module, call, constants, noise="zero").output(z, labels)
    finally:
        for handle in handles:
            handle.remove()
    conv, shape = first[0] if first else (None, ())
    if isinstance(conv, nn.Conv2d):
        of_pixel = len(shape) == 3 and shape[1:] == (1, 1) and conv.kernel_size != (1, 1)
        if conv.in_channels in IMAGE_CHANNELS or of_pixel:
            raise _takes_image(module, conv, label)


def check_first_layer(module: nn.Module, label: str) -> None:
    """Raises `GanportError` when the first layer with weights, in the order of registration, takes an image."""
    conv = next((part for part in module.modules() if isinstance(part, _WEIGHTED)), None)
    if isinstance(conv, nn.Conv2d) and conv.in_channels in IMAGE_CHANNELS:
        raise _takes_image(module, conv, label)


def _takes_image(module: nn.Module, conv: nn.Conv2d, label: str) -> GanportError:
    name = next(name for name, part in module.named_modules() if part is conv)
    return GanportError(
        f"{label}: expected a generator, whose input is a latent; {name} takes an image of {conv.in_channels} channels",
        hint=HINT,
    )


BATCH = 3
MOST_TRIES = 300
SAME = 1e-3
"""How much an image may differ alone and in a batch, as a share of its own spread: the proof measures it exactly."""

UNSTEADY = "an image changes with its neighbours or from run to run; the proof will measure it"


@dataclass
class _Tries:
    """What was tried and how it ended: an exception's line and how deep it arose, or the shapes that came out."""

    errors: list[tuple[Call, str, int]] = field(default_factory=list)
    outputs: list[tuple[Call, str]] = field(default_factory=list)
    choices: list[tuple[Call, list[tuple[tuple[int | str, ...], Tensor]]]] = field(default_factory=list)
    count: int = 0


@dataclass(frozen=True)
class Found:
    """The way to call a module, where its images are, and what was noticed on the way (one sentence each).

    assumption  what nothing in the code says, "" for nothing
    """

    call: Call
    picked: Picked
    notes: tuple[str, ...]
    assumption: str = ""


def probe(
    module: nn.Module,
    code: Code,
    live: LiveAnswers,
    constants: Sequence[Constant],
    image: tuple[int, int, int] | None,
) -> Found:
    """Raises `GanportError`, naming the option that would settle it, when no way or several lead to images."""
    forward = forward_of(module, [constant.name for constant in constants])
    tries = _Tries()
    for call in _calls(module, forward, live):
        if tries.count >= MOST_TRIES:
            break
        found = _try(module, call, constants, live, image, tries, code)
        if found is not None:
            if live.z_dim is None and live.z_shape is None:
                check_latent(module, call, constants, code.label)
            return dataclasses.replace(found, assumption=_counted(module, call, live))
    if not tries.choices and not tries.outputs and live.z_dim is None and live.z_shape is None:
        check_first_layer(module, code.label)
    raise _explain(forward, live, tries, image, code)


def _counted(module: nn.Module, call: Call, live: LiveAnswers) -> str:
    """The assumption behind a number of classes that only the width of a layer shows."""
    if not call.n_classes or live.n_classes is not None or class_counts(module) or counts_beside(module, live.z_dim):
        return ""
    return f"{call.n_classes} classes: as many numbers as the label's own layer takes; `classes` says otherwise"


def _calls(module: nn.Module, forward: Forward, live: LiveAnswers) -> Iterator[Call]:
    """Every call worth trying, the likelier first."""
    counts = [live.n_classes] if live.n_classes is not None else class_counts(module)
    if live.inputs is not None:
        orders = [given_inputs(forward, live.inputs)]
    else:
        conditional = None if live.n_classes is None else live.n_classes > 0
        if conditional is None and counts and forward.label is not None:
            conditional = True
        orders = possible_inputs(forward, conditional)
        if conditional and live.n_classes is None:  # a label with a default may be left out
            with contextlib.suppress(GanportError):
                orders += [order for order in possible_inputs(forward, False) if order not in orders]
    for inputs in orders:
        labelled = any(role == "label" for role, _ in inputs)
        if not labelled:
            for z_dim, shape in _latents(module, live, 0):
                yield Call(inputs, z_dim, shape)
            continue
        known = counts or counts_beside(module, live.z_dim)
        own_layer = not known and forward.label is not None and says_label(forward.label.name)
        for n_classes in known or (counts_taken(module) if own_layer else []):
            for z_dim, shape in _latents(module, live, n_classes):
                for form in LABEL_FORMS if known else ONE_HOT_FORMS:
                    yield Call(inputs, z_dim, shape, n_classes, form)
        if not known:
            raise GanportError(
                f"{forward.text} takes a label, and nothing says of how many classes",
                hint="`classes` N; or `constant` NAME=VALUE when it is no label",
            )


def _latents(module: nn.Module, live: LiveAnswers, n_classes: int) -> Iterator[tuple[int, ZShape]]:
    if live.z_shape is not None:
        shape, z_dim = parse_z_shape(live.z_shape, live.z_dim)
        if shape is not None and z_dim is not None:
            yield z_dim, shape
            return
    widths = [live.z_dim] if live.z_dim is not None else latent_widths(module, n_classes)
    for width in widths:
        if live.z_shape is not None:
            try:
                given = parse_z_shape(live.z_shape, width)[0]
            except GanportError:
                continue  # a width that cannot be had in that shape
            assert given is not None
            yield width, given
        else:
            for shape in (ZShape((width,)), ZShape((width, 1, 1)), ZShape((width,), listed=True)):
                yield width, shape


def _try(
    module: nn.Module,
    call: Call,
    constants: Sequence[Constant],
    live: LiveAnswers,
    image: tuple[int, int, int] | None,
    tries: _Tries,
    code: Code,
) -> Found | None:
    tries.count += 1
    adapter = LiveGenerator(module, call, constants, noise="zero" if live.noise else None)
    z = torch.from_numpy(latents(range(BATCH), call.z_dim))
    label = torch.tensor([0, call.n_classes // 2, call.n_classes - 1]) if call.n_classes else None
    try:
        with torch.no_grad(), quiet():
            output = adapter.output(z, label)
            alone = adapter.output(z[:1], None if label is None else label[:1])
            other = alone if label is None else adapter.output(z[:1], label[-1:])
    except Exception as error:  # whatever a foreign forward raises means: not in this way
        depth = len(traceback.extract_tb(error.__traceback__))
        tries.errors.append((call, forward_error(error, code), depth))
        return None
    picked, notes = _pick(output, call, live, image, tries)
    if picked is None:
        return None
    together, single, relabelled = (pick(part, picked.path).float() for part in (output, alone, other))
    spread = float(together.max() - together.min())
    wrong = ""
    if single.shape[1:] != together.shape[1:]:
        wrong = "other sizes for other batches"
    elif not torch.isfinite(together).all():
        wrong = "values that are not finite"
    elif bool((together == together[:1]).all()):
        wrong = "one image for every latent"
    elif label is not None and torch.equal(single, relabelled):
        wrong = "one image for every label"
    if wrong:
        tries.outputs.append((call, wrong))
        return None
    if float((single[0] - together[0]).abs().max()) > SAME * max(spread, 1e-12):
        notes = (*notes, UNSTEADY)
    return Found(call, picked, notes)


def _pick(
    output: Any, call: Call, live: LiveAnswers, image: tuple[int, int, int] | None, tries: _Tries
) -> tuple[Picked | None, tuple[str, ...]]:
    """Where the images are in `output`; None (and the reason in `tries`) when there are none, or several."""
    listed = list(parts(output))
    wanted = live.output_index if live.output_index is not None else live.output_key
    if wanted is not None:
        listed = [(path, tensor) for path, tensor in listed if path and path[0] == wanted]
    images = [(path, tensor, held) for path, tensor in listed if (held := layout_of(tuple(tensor.shape), BATCH, image))]
    images = [one for one in images if one[2][0] != "flat"] or images
    if len(images) != 1:
        if len(images) > 1:
            tries.choices.append((call, [(path, tensor) for path, tensor, _ in images]))
        else:
            shapes = (
                ", ".join(f"{_path(path)}{_shape(tensor)}" for path, tensor in parts(output)) or type(output).__name__
            )
            tries.outputs.append((call, shapes))
        return None, ()
    path, tensor, (layout, size) = images[0]
    notes = []
    if path:
        notes.append(f"the images are output{_path(path)}")
    if layout == "NHWC":
        notes.append(f"its images are channels last, {_shape(tensor)}: transposed")
    if layout == "flat" and tensor.dim() != 4 and image is None:
        notes.append(
            f"its output {_shape(tensor)} is taken for images {'x'.join(map(str, size))} (`image` says otherwise)"
        )
    return Picked(path, layout, size), tuple(notes)


def _explain(
    forward: Forward, live: LiveAnswers, tries: _Tries, image: tuple[int, int, int] | None, code: Code
) -> GanportError:
    """The most telling of what was tried: several images, then outputs that are none, then the first error."""
    if tries.choices:
        _, images = tries.choices[0]
        shown = ", ".join(f"{_path(path)} {_shape(tensor)}" for path, tensor in images[:6])
        first = images[0][0][0] if images[0][0] else 0
        option = f"`output_index` {first}" if isinstance(first, int) else f"`output_key` {first}"
        return GanportError(f"{code.label} returns {len(images)} images: {shown}", hint=f"choose one, such as {option}")
    if tries.outputs:
        call, what = tries.outputs[0]
        expected = "images " + ("x".join(map(str, image)) if image else "of 1 or 3 channels")
        wanted = live.output_index if live.output_index is not None else live.output_key
        where = "" if wanted is None else f" at {wanted!r}"
        return GanportError(
            f"{code.label}: {call} gives {what}, expected {expected}{where}",
            hint="are these its own weights, and trained ones?"
            if "every latent" in what or "finite" in what
            else "a generator? `image` for flat images, `output_index` or `output_key` for one of several outputs",
        )
    if tries.errors:
        call, what, _ = max(tries.errors, key=lambda one: one[2])  # the way that got furthest is the likeliest
        more = f" (and {len(tries.errors) - 1} other ways)" if len(tries.errors) > 1 else ""
        return GanportError(f"{code.label}: {call} fails{more}: {what}", hint=_hint(what, live))
    if not forward.free and not forward.open_ended:
        return GanportError(f"{code.label}: {forward.text} takes no latent", hint="a generator's forward takes one")
    return GanportError(f"{code.label}: {forward.text} gives no clue to the latent's size", hint="say it: `z_dim` N")


def _hint(error: str, live: LiveAnswers) -> str:
    if asks_for_cuda(error):
        return HINT_CUDA
    width = "is `z_dim` right? else" if live.z_dim is not None else "`z_dim` N,"
    return f"say how it is called: {width} `z_shape` Dx1x1, `inputs` z,label, `classes` N, `constant` NAME=VALUE"


def _path(path: tuple[int | str, ...]) -> str:
    return "".join(f"[{step!r}]" for step in path)


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, ('N', *tensor.shape[1:])))})"
