"""`gan_export.inspect` and `gan_export.export`: the exporter for programs. Torch is imported when they are called.

They print nothing: what there is to say is logged, by loggers below "gan_export", and what cannot be decided is raised.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from gan_core.errors import GanportError, MissingPackageError
from gan_core.files import check_outputs
from gan_core.said import parse_image, parse_latent, parse_value_range, size_text
from gan_export.answers import (
    DEFAULT_OPSET,
    Answers,
    LiveAnswers,
    OnnxOptions,
    misplaced,
    parse_activation,
    parse_output,
)

if TYPE_CHECKING:
    from PIL import Image

    from gan_core.interface import Interface
    from gan_core.spec.generator_spec import GeneratorSpec
    from gan_export.asking import Candidate
    from gan_export.draft import Choice
    from gan_export.identify import Identified
    from gan_export.proof import Report

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
SUFFIXES = (".onnx", ".ts")


class Said(TypedDict, total=False):
    """What a checkpoint does not say itself: the options of the same names on the command line (docs/cli.md).

    key                where in the file the generator is: "generator.ema"
    raw                the raw weights, where there are averaged ones
    trust_pickle       run a pickle, whatever it does, with your rights
    spec               a JSON file of the whole network
    image              (C, H, W), or "3x64x64"
    latent             "normal", "uniform" or "uniform01"
    output_activation  "tanh", "sigmoid", "hardtanh" or "identity"
    value_range        the output values of (black, white)
    activation         of the hidden layers: "relu", "leaky_relu:0.2"
    z_dim, classes     components of a latent, classes of a one-hot label
    discriminator      the file of the discriminator that it was trained with
    source             the author's code, which is read and not run
    like               real images of the kind: a folder, or a data set's name
    recompute_stats    compute the running statistics again; False keeps the file's
    stats_latents      from how many latents
    image_stats        BatchNorms normalise each image by its own statistics; False: by the file's
    pick               the candidate that is right, from 1 (`Inspection.candidates`)
    accept             take what is assumed as it is
    """

    key: str
    raw: bool
    trust_pickle: bool
    spec: str | os.PathLike[str]
    image: tuple[int, int, int] | str
    latent: str
    output_activation: str
    value_range: tuple[float, float]
    activation: str
    z_dim: int
    classes: int
    discriminator: str | os.PathLike[str]
    source: str | os.PathLike[str]
    like: str
    recompute_stats: bool
    stats_latents: int
    image_stats: bool
    pick: int
    accept: bool


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint is, and on what evidence.

    path       the file
    spec       the generator as data; `spec.interface` is what goes in and comes out
    family     whose network it is; "ganport" for what gan-train wrote
    weights    "ema" or "raw"
    evidence   all that the weights do not carry, each choice with its value, evidence, odds and reason; empty for what
               gan-train wrote, which says everything itself
    open       those of `evidence` that an export asks about
    doubts     why its images are likely wrong, one sentence each
    """

    path: Path
    spec: GeneratorSpec
    family: str
    weights: str
    evidence: tuple[Choice, ...]
    open: tuple[Choice, ...]
    doubts: tuple[str, ...]
    identified: Identified = field(repr=False)

    @property
    def interface(self) -> Interface:
        """Latents, classes, image size and value range."""
        return self.spec.interface

    @property
    def settled(self) -> bool:
        """Whether `export` asks nothing."""
        return not self.open and not self.doubts

    def candidates(self) -> list[Candidate]:
        """The generators that the file may be, most likely first, each with its images: uint8 (10, H, W, C)."""
        from gan_export.asking import candidates_of

        return candidates_of(self.identified)

    def sheet(self) -> Image.Image:
        """The candidates as one Pillow image, a row each."""
        import io

        from PIL import Image

        from gan_export.asking import sheet_of

        return Image.open(io.BytesIO(sheet_of(self.candidates())))

    def to_json(self) -> dict[str, Any]:
        """What `gan-export inspect --json` prints."""
        from gan_export.inspection import advise, to_json

        return to_json(self.identified, advise(self.identified))


@dataclass(frozen=True)
class Exported:
    """A file that was written and proved.

    path        where it is
    report      the proof: every check with what was measured and its limit
    interface   latents, classes, image size and value range
    spec        the generator as data; None for a network that came as code
    inspection  what it was read as; None for a network that came as code
    """

    path: Path
    report: Report
    interface: Interface
    spec: GeneratorSpec | None
    inspection: Inspection | None

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the file rests on and nothing showed, one sentence each."""
        return self.report.assumptions


class UndecidedError(GanportError):
    """A choice that changes the images is open. `inspection` has the choices and the candidates."""

    def __init__(self, inspection: Inspection) -> None:
        from gan_export.assumptions import describe

        asked = "; ".join([*inspection.doubts, *map(describe, inspection.open)])
        hint = "look at inspection.sheet(): `accept=True` takes row 1, `pick=2` another; or say what you know, such as"
        super().__init__(f"{inspection.path} does not settle what it generates: {asked}", f'{hint} `image="3x64x64"`')
        self.inspection = inspection

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.inspection,)


def inspect(path: str | os.PathLike[str], **said: Unpack[Said]) -> Inspection:
    """Says what the checkpoint at `path` is, on what evidence, and what is open. Nothing in the file is run.

    said  what the file does not say and you know

        >>> found = inspect("g.pt")
        >>> found.settled, found.interface.picture, found.interface.z_dim
        (True, '28x28 grey', 8)

    Raises `GanportError` for a file that is missing or no checkpoint, and where no generator is found in it
    (`gan_export.identify.NotUnderstoodError`, whose `reading` has the tensors).
    """
    require_packages("inspecting a checkpoint")
    return _inspected(Path(path), answers_of(said))


def export(
    path: str | os.PathLike[str] | None,
    out: str | os.PathLike[str] | None = None,
    *,
    precision: str = "fp32",
    store: str = "fp32",
    optimize: str = "auto",
    opset: int = DEFAULT_OPSET,
    module: str | None = None,
    args: Mapping[str, Any] | list[Any] | None = None,
    **said: Unpack[Said],
) -> Exported:
    """Exports the generator in a checkpoint, and proves that the file generates the same images as PyTorch.

    path       the checkpoint: a run's g.pt, or anybody's; None for a `module` that comes with its weights
    out        the file to write, .onnx or .ts (TorchScript); None: beside the checkpoint, .onnx
    precision  where the graph computes: "fp32", "fp16" or "int8"
    store      "fp16" keeps float32 arithmetic and halves the file
    optimize   "auto", "tune" or "none": which form the graph gets
    opset      18 … 23
    module     "file.py:Class" of the network's own code, which is run; `args` is what it is called with
    said       what the file does not say and you know

        >>> made = export("g.pt", "g.onnx")
        >>> made.path.name, made.report.ok, made.assumptions
        ('g.onnx', True, ())

    Raises `UndecidedError` where the checkpoint leaves open what the images depend on, `GanportError` for other wrong
    input, and `ProofError` when the proof fails; `out` is then what it was before, or not there.
    """
    options = OnnxOptions(opset, optimize, precision, store)
    ckpt = None if path is None else Path(path)
    answers = answers_of(said, module, args)
    target = _target(ckpt, None if out is None else Path(out), options)
    check_outputs({"`path`": ckpt, "`spec`": answers.spec}, {"`out`": target})
    require_packages("exporting")
    from gan_export.exporting import export_onnx, export_torchscript
    from gan_export.identify import check_possible, source_of

    inspection = None
    if answers.live is not None:
        from gan_export.live.source import live_source

        source = live_source(ckpt, answers)
    else:
        assert ckpt is not None
        inspection = _inspected(ckpt, answers)
        check_possible(inspection.identified)
        if not inspection.settled and not answers.accept:
            raise UndecidedError(inspection)
        source = source_of(inspection.identified)
    report = export_torchscript(source, target) if target.suffix == ".ts" else export_onnx(source, target, options)
    if not report.ok:
        raise report.error("nothing was written")
    return Exported(target, report, source.interface, source.spec, inspection)


def answers_of(said: Said, module: str | None = None, args: Mapping[str, Any] | list[Any] | None = None) -> Answers:
    """`said` as the reader takes it, checked. Raises `GanportError`, and `TypeError` for what is no answer."""
    given = cast("dict[str, Any]", dict(said))
    for name, parse in (
        ("latent", parse_latent),
        ("output_activation", parse_output),
        ("activation", parse_activation),
    ):
        if name in given:
            given[name] = parse(given[name])
    if "image" in given:
        image = given["image"]
        given["image"] = parse_image(image if isinstance(image, str) else size_text(image))
    if "value_range" in given:
        given["value_range"] = parse_value_range(",".join(map(str, given["value_range"])))
    for name in ("spec", "discriminator", "source"):
        if name in given:
            given[name] = Path(given[name])
    renamed = {"output": given.pop("output_activation", None), "n_classes": given.pop("classes", None)}
    if given.get("stats_latents") is not None and not given.get("recompute_stats"):
        raise GanportError("`stats_latents` has no place without `recompute_stats`", hint="add `recompute_stats=True`")
    answers = Answers(**given, **renamed)
    if module is None:
        if args is not None:
            raise GanportError("`args` has no place without `module`", hint='`module="networks.py:Generator"`')
        return answers
    if (other := misplaced(answers)) is not None:
        raise GanportError(f"`{other}` has no place beside `module`: code needs no draft", hint=f"leave out `{other}`")
    called = dict(args) if isinstance(args, Mapping) else args
    return replace(answers, live=LiveAnswers(module, called, z_dim=answers.z_dim, n_classes=answers.n_classes))


def require_packages(purpose: str) -> None:
    """Raises `MissingPackageError` naming the first package of the extra `export` that is not installed."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(package, "export", purpose)


def _inspected(path: Path, answers: Answers) -> Inspection:
    from gan_export.identify import identify
    from gan_export.inspection import spec_of

    identified = identify(path, answers)
    draft = identified.draft
    return Inspection(
        path=path,
        spec=spec_of(identified),
        family="ganport" if draft is None else draft.family,
        weights=identified.reading.which,
        evidence=() if draft is None else draft.choices,
        open=identified.unanswered,
        doubts=identified.doubts,
        identified=identified,
    )


def _target(ckpt: Path | None, out: Path | None, options: OnnxOptions) -> Path:
    """The file to write. Raises `GanportError` where nothing names it, or its name is of no format."""
    if out is None:
        if ckpt is None:
            raise GanportError("expected `out`, or a checkpoint to name the file after", hint='`out="g.onnx"`')
        return ckpt.with_suffix(f"{options.tag}.onnx")
    if out.suffix not in SUFFIXES:
        raise GanportError(f"`out` ends in .onnx or .ts, got {out}", hint=f"{out.with_suffix('.onnx')}")
    if out.suffix == ".ts" and options != OnnxOptions():
        raise GanportError("`precision`, `store`, `optimize` and `opset` are for .onnx", hint="leave them out")
    return out
