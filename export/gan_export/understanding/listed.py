"""Whole modules, taken at their word: a network as its file lists it.

An `nn.Sequential` of torch's own modules says everything but the latent distribution. It is read module by module and
needs no search; what a spec cannot say is refused by name. A network of an author's class runs code that is not in
the file, so its draft comes from shapes. What the file lists of it all the same, each module with its numbers, has to
be in the draft: nothing left out, nothing said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from torch import Tensor

from gan_core.errors import GanportError
from gan_core.image_input import IMAGE_CHANNELS
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import BUDGET, GeneratorSpec, check_shape
from gan_core.spec.layers import Shape, SpecError
from gan_export.draft import Choice, Draft, Evidence
from gan_export.families import images_of
from gan_export.understanding import slots
from gan_export.understanding.geometry import SIZE_COSTS
from gan_export.understanding.module_tree import LISTS_ONLY, RUNS_ITS_CHILDREN, Tree
from gan_export.understanding.torch_modules import INERT, bounds_of, layers_of
from gan_export.understanding.units import OWN_CODE, needs_code

Image = tuple[int, int, int]
LISTED = "listed"
"""The family of a draft that was read module by module; nothing in it but the latent distribution is open."""


def listed_drafts(tree: Tree, image: Image | None) -> list[Draft]:
    """The network that `tree` lists, when containers that run their children in order hold all of it, but for one
    class of the author's around them; empty when they do not, or when it begins with an image.

    Raises `GanportError` naming the module that a spec cannot say, and when what it makes is no image.
    """
    root = "" if tree.runs_in_order("") else next(iter(list(tree.modules)[1:]), "")
    inside = [name for name in tree.inner if name == root or name.startswith(f"{root}." if root else "")]
    around = [name for name in tree.inner if name not in inside]
    leaves = [name for name in tree.leaves if not root or name.startswith(f"{root}.")]
    if len(tree.leaves) > BUDGET.layers:
        raise GanportError(
            f"the file lists {len(tree.leaves):,} modules, at most {BUDGET.layers:,} are read",
            hint="is it a generator's? else its own code may do: `module` file.py:Class",
        )
    if around not in ([], [""]) or leaves != tree.leaves or not all(map(tree.runs_in_order, inside)):
        return []
    if not inside or tree.modules[""].changed or any(owner not in leaves for owner in tree.tensors):
        return []
    begins = _latent(tree)
    if begins is None:
        return []
    reader = _Reader(tree, code_around=bool(around))
    reader.open(begins)
    for name in tree.leaves:
        reader.read(name)
    return reader.drafts(image)


def _latent(tree: Tree) -> tuple[int, bool] | None:
    """(numbers of the latent, whether it comes as an image of 1x1), from the first module that shows it; None where
    none does, or where it is an image."""
    for name in tree.leaves:
        kind, tensors = tree.modules[name].kind, tree.tensors.get(name, {})
        weight = tuple(tensors["weight"].shape) if "weight" in tensors else ()
        if kind == "Linear" and len(weight) == 2:
            return weight[1], False
        if kind in ("Conv2d", "ConvTranspose2d") and len(weight) == 4:
            groups = tree.modules[name].settings.get("groups", 1)
            takes = weight[0] if kind == "ConvTranspose2d" else weight[1] * (groups if type(groups) is int else 1)
            return (takes, True) if takes > max(IMAGE_CHANNELS) else None
        if "running_mean" in tensors:
            return tensors["running_mean"].numel(), kind != "BatchNorm1d"
        if kind in ("LayerNorm", "RMSNorm", "GroupNorm") and len(weight) == 1:
            return weight[0], False
        if kind == "Unflatten":
            size = tree.modules[name].settings.get("unflattened_size")
            whole = isinstance(size, tuple) and all(type(side) is int and side > 0 for side in size)
            return (math.prod(size), False) if whole else None  # type: ignore[arg-type]
        if weight:
            return None
    return None


@dataclass
class _Reader:
    tree: Tree
    code_around: bool
    shapes: list[Shape] = field(default_factory=list)
    layers: list[L.Layer] = field(default_factory=list)
    weights: list[dict[str, Tensor]] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    from_one_pixel: bool = False

    def open(self, latent: tuple[int, bool]) -> None:
        numbers, self.from_one_pixel = latent
        self.shapes = [(numbers,)]
        if self.from_one_pixel:
            self._add(L.Reshape((numbers, 1, 1)))

    def read(self, name: str) -> None:
        where = self.tree.where(name)
        part = self.tree.part(name, self.shapes[-1])
        if part.kind == "Embedding":
            raise needs_code(f"the file lists Embedding {where}, which takes a label, not a latent")
        for layer in layers_of(part, where):
            index = len(self.layers)
            self._add(layer, {name: part.tensors[name] for name in layer.tensors()})
            said = f"the file lists {part.kind} {where}"
            if isinstance(layer, L.Activation) and layer.name != "prelu":
                self._proved(index, "activation", slots.value_of(layer), said)
            elif isinstance(layer, L.BatchNorm):
                self._proved(index, "eps", layer.eps, f"the file says so for {name}")
            elif isinstance(layer, L.Upsample) and layer.size is None:
                self._proved(index, "upsample", {"mode": layer.mode, "align_corners": layer.align_corners}, said)

    def drafts(self, image: Image | None) -> list[Draft]:
        """One draft for each image that the last layer may stand for."""
        output = self._output()
        found = []
        for shape in self._images(image):
            layers = (*self.layers, *([] if self.shapes[-1] == shape else [L.Reshape(shape)]))
            spec = GeneratorSpec(
                Interface(self.shapes[0][0], shape, value_range=output), layers, name=f"listed-{shape[1]}"
            )
            choices = (self._structure(shape), slots.latent_choice(), *self.choices)
            owned = (*self.weights, *({} for _ in layers[len(self.layers) :]))
            found.append(Draft(spec, owned, choices, family=LISTED))
        return found

    def _images(self, image: Image | None) -> list[Image]:
        made = self.shapes[-1]
        if len(made) == 3:
            possible = [(made[0], made[1], made[2])] if made[0] in IMAGE_CHANNELS else []
        elif image and (math.prod(image),) == made:
            possible = [image]
        else:
            possible = [found for found in images_of(made[0]) if found[1] in SIZE_COSTS] if len(made) == 1 else []
        if not possible or image not in (None, *possible):
            wanted = "x".join(map(str, image)) if image else "an image of 1, 3 or 4 channels"
            raise GanportError(
                f"the modules that the file lists make {'x'.join(map(str, made))}, expected {wanted}",
                hint=f"check `image` and `key`; else {OWN_CODE}",
            )
        return possible

    def _structure(self, shape: Image) -> Choice:
        said = "x".join(map(str, shape))
        evidence, reason = Evidence.PROVED, "the file lists every module, in the order in which they run"
        if self.code_around:
            evidence = Evidence.STRONG
            reason += f"; the code of {self.tree.modules[''].kind} around them is not in the file"
        if self.from_one_pixel and (shape[1] not in SIZE_COSTS or shape[1] != shape[2]):
            evidence = Evidence.WEAK
            reason = f"the file lists every module; a latent of 1x1 pixels is assumed, which makes {said}"
        return Choice(None, "structure", f"z {self.shapes[0][0]}, as listed → {said}", evidence, reason)

    def _output(self) -> tuple[float, float]:
        """Makes the last activation the output's choice; gives the range of values, with a choice where none shows."""
        at = len(self.layers) - 1
        while at > 0 and isinstance(self.layers[at], (L.Reshape, L.Upsample, L.Pool, L.AdaptivePool, L.PixelShuffle)):
            at -= 1
        last = self.layers[at]
        if not isinstance(last, L.Activation) or last.name == "prelu":
            at, last = len(self.layers), L.Activation("identity")
            self._add(last)
            if self.code_around:
                assumed = slots.output_choice(at, None)
                self.layers[at] = slots.activation(assumed.value)
                self.choices.append(assumed)
                black, white = assumed.value["value_range"]
                return black, white
            self._proved(at, "output", slots.value_of(last), "the file lists no activation at the end")
        bounds = bounds_of(last)
        for choice in self.choices:
            if choice.layer == at and choice.field == "activation":
                value = choice.value if bounds is None else choice.value | {"value_range": list(bounds)}
                self.choices[self.choices.index(choice)] = replace(choice, field="output", value=value)
        if bounds is not None:
            return bounds
        reason = f"nothing in the file shows the range of values that {last.name} ends in"
        self.choices.append(Choice(None, "value_range", [-1.0, 1.0], Evidence.NONE, reason, ([0.0, 1.0],)))
        return -1.0, 1.0

    def _proved(self, index: int, what: str, value: object, reason: str) -> None:
        self.choices.append(Choice(index, what, value, Evidence.PROVED, reason))

    def _add(self, layer: L.Layer, tensors: dict[str, Tensor] | None = None) -> None:
        made = layer.out_shape(self.shapes[-1])
        check_shape(len(self.layers), layer, self.shapes[-1], made)
        self.shapes.append(made)
        self.layers.append(layer)
        self.weights.append(tensors or {})


def check_containers(tree: Tree) -> None:
    """Raises `GanportError` for a container of torch's that computes something of its own (an attention, a
    transformer), and for one with a hook."""
    for name in tree.inner:
        info = tree.modules[name]
        composed = info.from_torch and info.kind not in (*RUNS_ITS_CHILDREN, *LISTS_ONLY)
        if info.changed or composed:
            layers_of(tree.part(name))


def check_listed(draft: Draft, tree: Tree) -> None:
    """Raises `GanportError` for the first module that the file lists and `draft` leaves out or has otherwise.

    Between two modules of one `nn.Sequential` the draft must have what is listed, in its order. Elsewhere the order is
    the author's code; there each listed module must be among the draft's layers.
    """
    at = _layers_of_leaves(draft, tree)
    for name in tree.leaves:
        if name in at:
            _check_weights(draft, tree, name, at[name])
    known = [name for name in tree.leaves if name in at]
    done: set[str] = set()
    for before, after in pairwise(known):
        if tree.together(before, after):
            between = tree.leaves[tree.leaves.index(before) + 1 : tree.leaves.index(after)]
            _check_between(draft, tree, between, at[before], at[after])
            done.update(between)
    for name in tree.leaves:
        if name not in done and name not in at and not _lists_only(tree, name):
            for layer in layers_of(tree.part(name, _any_shape(tree, name)), tree.where(name)):
                if not _has(draft, layer):
                    raise _missing(tree, name)


def _layers_of_leaves(draft: Draft, tree: Tree) -> dict[str, int]:
    """Leaf with tensors → index of the draft's layer that has them."""
    owners = {id(tensor): name for name, held in tree.tensors.items() for tensor in held.values()}
    found = {owners.get(id(tensor)): i for i, owned in enumerate(draft.weights) for tensor in owned.values()}
    return {name: index for name, index in found.items() if name in tree.leaves}


def _check_weights(draft: Draft, tree: Tree, name: str, index: int) -> None:
    """A module with weights is the layer that it says, but for a border that the layer took in."""
    here = draft.spec.layers[index]
    listed = layers_of(tree.part(name, draft.spec.shapes[index]), tree.where(name))[-1]
    if isinstance(here, L.LabelEmbedding) and isinstance(listed, L.LabelEmbedding):
        listed = replace(listed, merge=here.merge)
    if isinstance(here, L.Conv) and isinstance(listed, L.Conv) and not listed.padding:
        listed = replace(listed, padding=here.padding, padding_mode=here.padding_mode)
    if listed != here:
        raise _missing(tree, name)


def _check_between(draft: Draft, tree: Tree, names: list[str], before: int, after: int) -> None:
    """The modules `names` without weights are what the draft has between its layers `before` and `after`."""
    drafted = list(range(before + 1, after))
    closing = draft.spec.layers[after]
    for name in names:
        drafted = list(_from_next(draft, drafted))
        shape = draft.spec.shapes[drafted[0] if drafted else after]
        for layer in layers_of(tree.part(name, shape), tree.where(name)):
            if isinstance(layer, L.Reshape):
                continue
            if isinstance(layer, L.Pad) and name == names[-1] and not drafted and _took_in(closing, layer):
                continue
            if not drafted or draft.spec.layers[drafted[0]] != layer:
                raise _missing(tree, name)
            drafted = drafted[1:]
    rest = list(_from_next(draft, drafted))
    if rest:
        found = draft.spec.layers[rest[0]]
        raise needs_code(f"the file lists no {found.kind} between {tree.leaves[0]} and its end where the draft has one")


def _from_next(draft: Draft, drafted: list[int]) -> Iterator[int]:
    """`drafted` from the first layer on that is no reshape and no identity."""
    passed = False
    for index in drafted:
        layer = draft.spec.layers[index]
        nothing = isinstance(layer, L.Reshape) or (isinstance(layer, L.Activation) and layer.name == "identity")
        passed = passed or not nothing
        if passed:
            yield index


def _took_in(layer: L.Layer, pad: L.Pad) -> bool:
    """Whether a convolution's own padding is `pad`."""
    borders = set(pad.borders)
    return isinstance(layer, L.Conv) and borders == {layer.padding} and pad.mode == layer.padding_mode and not pad.value


def _any_shape(tree: Tree, name: str) -> Shape | None:
    """A shape for the modules that only need to be somewhere: whole upsamplings, and reshapes, which leave no layer."""
    return (1, 16, 16) if tree.modules[name].kind.startswith("Upsampl") else None


def _lists_only(tree: Tree, name: str) -> bool:
    info = tree.modules[name]
    return info.from_torch and info.kind in (*LISTS_ONLY, "Flatten", "Unflatten", *INERT)


def _has(draft: Draft, layer: L.Layer) -> bool:
    if isinstance(layer, L.Pad):
        return layer in draft.spec.layers or any(_took_in(other, layer) for other in draft.spec.layers)
    return layer in draft.spec.layers


def _missing(tree: Tree, name: str) -> GanportError:
    return needs_code(
        f"the file lists {tree.modules[name].kind} {tree.where(name)}, which the draft from its shapes does not have"
    )


def keep_listed(drafts: list[Draft], tree: Tree) -> list[Draft]:
    """Those of `drafts` that have all that the file lists. If none does, raises why the first one fails."""
    kept, wrong = [], None
    for draft in drafts:
        try:
            check_listed(draft, tree)
            kept.append(draft)
        except (GanportError, SpecError) as error:
            wrong = wrong or error
    if not kept and wrong is not None:
        raise wrong
    return kept
