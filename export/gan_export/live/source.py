"""`live_source`: the user's code and a checkpoint as the `Source` that the exporters take."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_core.files.model_file import file_provenance
from gan_core.interface import Interface
from gan_core.latents import latents
from gan_core.printable import shorten
from gan_core.said import size_text
from gan_export.answers import Answers, LiveAnswers
from gan_export.identify import provenance_of
from gan_export.live.adapter import Constant, LiveGenerator
from gan_export.live.building import arguments_of, build, class_in
from gan_export.live.images import FoundImage, probe_image, traced_size
from gan_export.live.loading import Code, load_code, users_code
from gan_export.live.probing import BATCH, UNSTEADY, Found, probe
from gan_export.live.signature import FULL, SWITCHES, forward_of, takes, without_classes
from gan_export.live.tracing import HALVES, Listener, draw_once
from gan_export.live.values import SAMPLES, find_range, image_range, latent_evidence
from gan_export.live.weights import load_weights, settle
from gan_export.reading import Reading, read_checkpoint
from gan_export.reading.authors_code import SUFFIXES
from gan_export.recompute import latents_said, recompute, recomputed_from, recomputed_words
from gan_export.source import Source, check_checkpoint

log = logging.getLogger(__name__)

KEY = "live"
"""Where the provenance keeps how a live module was called; `gan_export.again` reads it."""


def live_source(ckpt: Path | None, answers: Answers) -> Source:
    """The generator that `answers.live` names, holding the weights in `ckpt`, or its own where that is None.

    The code is run. Raises `GanportError` for code that fails, weights that do not fit it, and a forward that cannot
    be called, makes no images, or draws numbers while nothing says what to put in their place.
    """
    live = answers.live
    assert live is not None
    constants_of(live)  # what is wrong with one is said before the code runs
    reading = None if ckpt is None else _read(check_checkpoint(ckpt), answers)
    code = load_code(
        live.module if reading is None or not live.module.endswith(SUFFIXES) else class_in(live.module, reading)
    )
    live = _with_arguments(live, reading, code)
    module = build(code, live.args)
    halves = {tensor.dtype for tensor in module.parameters()}
    if reading is None:
        _check_own_weights(module, code, live)
        log.info(f"no `ckpt`: the weights are those that {code.label} comes with")
    else:
        prepare(module, code)
        try:
            module, notes = load_weights(module, reading, code.label)
        except GanportError as error:
            module, reading, notes = _whole(module, reading, answers, code, error)
        # A module with norms of its own takes the parts, not what was folded.
        for note in (*(note for note in reading.notes if note not in reading.folded), *notes):
            log.info(f"{ckpt}: {note}")
    prepare(module, code)
    with users_code(code.path, f"calling {code.label}"):
        live = _in_float32(module, code, _without_label(module, live))
        found = _probe(module, code, live, answers)
        live, switched = _switched_off(module, live, found)
        adapter = _adapter(module, code, live, constants_of(live), found, answers).eval()
        evidence, recomputed = None, 0
        if isinstance(found, FoundImage):
            _refuse_latents(answers, code)
            values = image_range(adapter, _examples(found, BATCH), answers.output, answers.value_range)
            interface = found.interface(values.ends)
        else:
            evidence = None if answers.latent or answers.recompute_stats else latent_evidence(adapter)
            law = answers.latent or (evidence and evidence.law) or "normal"
            interface = Interface(found.call.z_dim, found.picked.image, latent=law, n_classes=found.call.n_classes)
            recomputed = latents_said(answers, interface)
            if recomputed:
                recompute(adapter, interface, recomputed)
            z = torch.from_numpy(latents(range(SAMPLES), found.call.z_dim, law))
            values = find_range(adapter, z, answers.output, answers.value_range)
            interface = replace(interface, value_range=values.ends)
    noticed = [note for note in found.notes if note != UNSTEADY or not (switched or live.noise)]
    for note in filter(None, (*noticed, found.assumption, switched, _halves(halves | adapter.halves))):
        log.info(f"{code.label}: {note}")
    found_law, remembered = (evidence.law, str(evidence)) if evidence is not None else (None, "")
    if found_law is not None:
        log.info(f"{code.label}: latent distribution {found_law}: {remembered}")
    elif remembered:
        log.warning(f"{code.label}: latent distribution {interface.latent} is likely wrong: {remembered}")
    known = answers.latent is not None or found_law is not None or interface.input is not None
    source = Source(
        adapter,
        interface,
        weights=reading.which if reading else "unknown",
        name=code.name,
        provenance=_provenance(code, reading, live, found, answers) | recomputed_from(recomputed),
        assumptions=_assumptions(
            live,
            values.assumption,
            found.assumption,
            switched,
            latent="" if known else remembered or "nothing in the module shows it",
        ),
        answers=(*_answers(live, answers), *recomputed_words(recomputed)),
    )
    return source if interface.input is None or interface.input.fixed else _of_one_size(source, code)


def _probe(module: nn.Module, code: Code, live: LiveAnswers, answers: Answers) -> Found:
    """How it is called with latents, else with images."""
    try:
        return probe(module, code, live, constants_of(live), answers.image)
    except GanportError:
        with_latents = live.z_dim is not None or live.z_shape is not None or live.n_classes
        found = None if with_latents else probe_image(module, live, constants_of(live), answers.image)
        if found is None:
            raise
        return found


def _refuse_latents(answers: Answers, code: Code) -> None:
    for name in ("latent", "recompute_stats", "stats_latents"):
        if getattr(answers, name):
            raise GanportError(f"`{name}` has no place: {code.label} takes images", hint=f"leave out `{name}`")


def _of_one_size(source: Source, code: Code) -> Source:
    """`source` as it is, where a tracer follows it for images of any size; else with its input's size fixed."""
    if traced_size(source):
        return source
    assert source.interface.input is not None
    log.info(f"{code.label}: its forward makes numbers of the image's sides, so the file takes images of one size only")
    fixed = replace(source.interface.input, fixed=True, halo=None)
    return replace(source, interface=replace(source.interface, input=fixed))


def constants_of(live: LiveAnswers) -> list[Constant]:
    """The constants that were said. Raises `GanportError` for one that cannot be passed."""
    return [Constant(name, text) for name, text in live.constants]


def _with_arguments(live: LiveAnswers, reading: Reading | None, code: Code) -> LiveAnswers:
    """`live` with the arguments that the file holds, where none are said and the file's network is of this class; else
    with those that its tensors show."""
    info = reading.modules.get("") if reading is not None else None
    if reading is None:
        return live
    if info is None or info.arguments is None or live.args is not None or info.kind != code.name:
        return replace(live, args=arguments_of(code, live.args, reading))
    log.info(f"{reading.path} holds the arguments of {code.name}: {shorten(json.dumps(info.arguments), 300)}")
    return replace(live, args=info.arguments)


def _without_label(module: nn.Module, live: LiveAnswers) -> LiveAnswers:
    """`live` with None for a label that forward takes though its attributes say that there are no classes."""
    label = forward_of(module, [name for name, _ in live.constants]).label
    if live.n_classes or live.inputs is not None or label is None or label.default is not label.empty:
        return live
    return replace(live, constants=(*live.constants, (label.name, "null"))) if without_classes(module) else live


def _in_float32(module: nn.Module, code: Code, live: LiveAnswers) -> LiveAnswers:
    """`live` with the switch that keeps all computations in float32, where the code has one."""
    if FULL in dict(live.constants) or not takes(module, FULL):
        return live
    log.info(f"{code.label}: {FULL}=true: its own switch, by which it computes all in float32, as the file does")
    return replace(live, constants=(*live.constants, (FULL, "true")))


def _switched_off(module: nn.Module, live: LiveAnswers, found: Found) -> tuple[LiveAnswers, str]:
    """`live` with the noise off by a switch of the code's own, where it draws any and nothing is said of it; and the
    assumption, "" for none."""
    if live.noise is None and _draws(module, live, found, BATCH):
        for name, value in SWITCHES.items():
            quiet = replace(live, constants=(*live.constants, (name, value)))
            known = name not in dict(live.constants) and takes(module, name)
            if known and not _draws(module, quiet, found, BATCH):
                return quiet, f"{name}={value}: the module's own switch, so that a latent has one image"
    return live, ""


def _draws(module: nn.Module, live: LiveAnswers, found: Found, batch: int) -> list[tuple[str, Any]]:
    """The random tensors that a forward of `batch` latents draws, as `Listener` has them."""
    z = _examples(found, batch)
    label = torch.zeros(batch, dtype=torch.int64) if found.call.n_classes else None
    with torch.no_grad(), Listener() as listener:
        LiveGenerator(module, found.call, constants_of(live), picked=found.picked).output(z, label)
    draws: list[tuple[str, Any]] = listener.draws
    return draws


def _examples(found: Found, batch: int) -> Tensor:
    """A batch of latents, or of images in [0, 1]."""
    if not isinstance(found, FoundImage):
        return torch.from_numpy(latents(range(batch), found.call.z_dim))
    return found.examples(batch)


def _halves(dtypes: set[torch.dtype]) -> str:
    """What is said of the types of half precision among `dtypes`, "" for none."""
    names = [str(dtype).removeprefix("torch.") for dtype in HALVES if dtype in dtypes]
    return f"it computes partly in {' and '.join(names)}: the file computes all in float32" if names else ""


def prepare(module: nn.Module, code: Code) -> None:
    """Eval mode, CPU, float32, no gradients; in place. Raises `GanportError` for a module that cannot be so."""
    with users_code(code.path, f"putting {code.label} on the CPU in float32 and eval mode"):
        module.cpu().float().eval().requires_grad_(False)
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise GanportError(f"{code.label} has parameters without data (meta)", hint="build it on the CPU")
    settle(module)


def _whole(
    module: nn.Module, reading: Reading, answers: Answers, code: Code, error: GanportError
) -> tuple[nn.Module, Reading, tuple[str, ...]]:
    """`module` with the weights of all networks in the state_dict that `reading` is a part of, for code that has them
    all. Raises `error` where they do not fit, either."""
    if answers.key is not None or not reading.passed_over:
        raise error
    try:
        whole = _read(reading.path, answers, apart=False)
        module, notes = load_weights(module, whole, code.label)
    except GanportError:
        raise error from None
    return module, whole, notes


def _read(ckpt: Path, answers: Answers, *, apart: bool = True) -> Reading:
    reading = read_checkpoint(
        ckpt, key=answers.key, raw=answers.raw, trust_pickle=answers.trust_pickle, said_by="code", apart=apart
    )
    if reading.ours is not None:
        raise GanportError(
            f"{ckpt} says itself what its generator is, `module` has no place", hint="leave out `module`"
        )
    return reading


def _check_own_weights(module: nn.Module, code: Code, live: LiveAnswers) -> None:
    """Code that makes other weights each time makes random ones. Raises `GanportError`."""
    if not code.rebuildable:
        return
    first, second = module.state_dict(), build(code, live.args).state_dict()
    differing = [name for name, tensor in first.items() if name not in second or not _equal(tensor, second[name])]
    if differing:
        raise GanportError(
            f"{code.label} makes other weights each time ({differing[0]}): random ones; expected trained ones",
            hint="give them: `ckpt` FILE; or name a factory that loads them",
        )


def _equal(a: Any, b: Any) -> bool:
    return not isinstance(a, Tensor) or (a.shape == b.shape and bool(torch.equal(a, b)))


def _adapter(
    module: nn.Module, code: Code, live: LiveAnswers, constants: list[Constant], found: Found, answers: Answers
) -> LiveGenerator:
    """The module behind one signature, its draws held still as asked. Raises `GanportError` for draws unanswered."""
    batches = [BATCH, BATCH + 2]
    draws = [_draws(module, live, found, batch) for batch in batches]
    if draws[0] and live.noise is None:
        shape = ", ".join(map(str, draws[0][0][1]))
        raise GanportError(
            f"{code.label} draws {len(draws[0])} tensors of random numbers in its forward, the first ({shape}), "
            f"so a latent has no one image",
            hint="`noise=zero` puts their mean there, `noise=fixed` the same numbers for every image",
        )
    if live.noise and not draws[0]:
        raise GanportError(
            f"`noise` has no place: {code.label} draws no numbers in its forward", hint="leave out `noise`"
        )
    if len(draws[0]) != len(draws[1]):
        raise GanportError(
            f"{code.label} draws {len(draws[0])} tensors for {batches[0]} latents, {len(draws[1])} for {batches[1]}",
            hint="`noise` needs a forward that draws as many for any batch",
        )
    fixed = draw_once(draws, batches) if live.noise == "fixed" else []
    return LiveGenerator(
        module,
        found.call,
        constants,
        picked=found.picked,
        activation=answers.output,
        noise=live.noise,
        fixed=fixed,
    )


def _provenance(
    code: Code, reading: Reading | None, live: LiveAnswers, found: Found, answers: Answers
) -> dict[str, Any]:
    """The checkpoint's (or, without one, the code's) file, and under `KEY` how it was called; no folders."""
    call = found.call
    if reading is not None:
        file = provenance_of(reading)
    else:
        file = {"format": "code"} | (file_provenance(code.path) if code.path and code.path.is_file() else {})
    path = found.picked.path
    called = {
        "args": live.args,
        "constants": dict(live.constants),
        "inputs": ",".join(f"{name}={role}" if name else role for role, name in call.inputs),
        "z_shape": str(call.z_shape) or None,
        "label": call.label_form,
        "output": path[0] if path else None,
        "output_activation": answers.output,
        "noise": live.noise,
    }
    return file | {KEY: code.provenance() | called}


def _assumptions(live: LiveAnswers, *others: str, latent: str) -> tuple[str, ...]:
    noise = {
        "zero": "noise zero: the numbers that the module draws in its forward are replaced by their mean",
        "fixed": "noise fixed: the numbers that the module draws in its forward are the same for every image",
    }
    law = latent and f"latent distribution normal: {latent}; `latent` says otherwise"
    return tuple(filter(None, (law, *others, noise.get(live.noise or ""))))


def _answers(live: LiveAnswers, answers: Answers) -> tuple[str, ...]:
    said = [
        ("latent distribution", answers.latent),
        ("output", answers.output),
        ("values in", answers.value_range and "[{:g}, {:g}]".format(*answers.value_range)),
        ("images of", answers.image and size_text(answers.image)),
    ]
    said_constants = live.constants if answers.live is None else answers.live.constants
    constants = [f"constant {name}={text}" for name, text in said_constants]
    return (*constants, *(f"{what} {value}" for what, value in said if value))
