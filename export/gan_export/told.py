"""What is known of a generator beside its tensors: by the user's word, an encoder,
a discriminator or the author's code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gan_core.errors import GanportError
from gan_core.spec import layers as L
from gan_export.answers import OUTPUT_RANGES, Answers
from gan_export.assumptions import AS_YOU_SAID
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics import SAMPLES
from gan_export.forensics.evidence import IDENTITY
from gan_export.forensics.statistics import witnesses
from gan_export.forensics.train_mode import encoded_of, spread_of
from gan_export.forensics.trials import same, segment_of
from gan_export.forensics.weighing import Weigher
from gan_export.hypotheses.companion import Companion
from gan_export.hypotheses.discriminator import label_beside, read_discriminators
from gan_export.hypotheses.encoder import Encoder, read_encoders
from gan_export.hypotheses.listing import before_reshape
from gan_export.reading import Reading
from gan_export.reading.authors_words import BEYOND, ORDER, Fact
from gan_export.reading.beside import Beside
from gan_export.reading.roles import tokens
from gan_export.understanding.edit import find_choice, replaced, with_value
from gan_export.understanding.heads import Told
from gan_export.understanding.slots import SIGMOID

DECODER_END = "decoders of variational autoencoders end in a sigmoid"
DECODER_ODDS = 30.0
"""Of those that were looked at, 19 of 20 end in a sigmoid."""


def told_of(reading: Reading, answers: Answers, beside: Beside | None) -> Told:
    """What the user, an encoder or a discriminator says of the generator's inputs."""
    if answers.z_dim is not None or answers.n_classes:
        return Told(answers.z_dim, answers.n_classes or 0, "your word")
    if reading.decoder is not None:
        return Told(reading.decoder.latent, reading.decoder.classes, "the encoder")
    if beside is not None and answers.n_classes is None:
        return Told(None, label_beside(beside.tensors, reading.tensors), "the discriminator")
    return Told()


def is_decoder(reading: Reading) -> bool:
    """Whether an encoder stands beside it, or the file or what was chosen in it is called a decoder or a variational
    autoencoder."""
    named = {*tokens(reading.path.stem), *tokens(reading.chosen.rpartition(".")[2])}
    return reading.decoder is not None or bool(named & {"decoder", "dec", "vae", "cvae"})


def as_decoder(draft: Draft) -> Draft:
    """`draft` as the decoder of a variational autoencoder: z is N(0, 1), and a sigmoid nearly always ends it."""
    for choice in draft.choices:
        if choice.field == "latent" and not choice.evidence.settled:
            reason = "the prior of a variational autoencoder"
            draft = with_value(draft, choice, "normal", evidence=Evidence.STRONG, reason=reason)
        elif choice.field == "output" and choice.evidence is Evidence.NONE:
            draft = with_value(draft, choice, SIGMOID, evidence=Evidence.WEAK, reason=DECODER_END)
            draft = replaced(draft, replace(find_choice(draft, choice.layer, "output"), odds=DECODER_ODDS))
    return draft


def companions_of(
    reading: Reading, beside: Beside | None, image: tuple[int, int, int], n_classes: int, *, named: bool
) -> Sequence[Companion]:
    """Ways to run the encoder in the file, or else the discriminator, which comes first where the user `named` it, on
    images (C, H, W) of `n_classes` classes."""
    if reading.encoder and reading.decoder is not None and not named:
        return read_encoders(reading.encoder, image, n_classes, reading.decoder.latent)
    return () if beside is None else read_discriminators(beside.tensors, image, n_classes)


def as_trained(
    drafts: Sequence[Draft],
    ways: Callable[[tuple[int, int, int], int], Sequence[Companion]],
    on_note: Callable[[str], None],
) -> list[Draft]:
    """`drafts` of a decoder with what shows how its latents lay in training: one of its encoder's `ways` to run where
    that has BatchNorms, or how wide they were."""
    face = drafts[0].spec.interface
    encoders = [one for one in ways(face.image, face.n_classes) if isinstance(one, Encoder) and one.norms]
    encoded = encoded_of(drafts, [functools.cache(one.latents) for one in encoders])
    if encoded is not None:
        on_note("the BatchNorms are asked with latents as the encoder makes them")
        return [replace(each, trained=encoded) for each in drafts]
    spread = spread_of(drafts)
    if spread != 1.0:
        on_note(f"the latents of its training were {spread:.2g} times as wide as N(0, 1): an encoder made them")
    return [replace(each, trained=spread) for each in drafts]


def answered(draft: Draft, answers: Answers) -> Draft:
    """The draft with every answer in its place, as proved: nobody knows better than the user."""
    for choice in draft.choices:
        value: Any = None
        if choice.field == "latent" and answers.latent is not None:
            value = answers.latent
        elif choice.field == "value_range" and (answers.value_range or answers.output):
            value = list(answers.value_range or OUTPUT_RANGES[answers.output or "identity"])
        elif choice.field == "output" and (answers.output is not None or answers.value_range is not None):
            value_range = answers.value_range or OUTPUT_RANGES[answers.output or "identity"]
            shape = choice.value if answers.output is None else {"name": answers.output, "slope": None}
            value = shape | {"value_range": list(value_range)}
        elif choice.field == "activation" and answers.activation is not None and not choice.evidence.settled:
            value = answers.activation if choice.evidence is Evidence.NONE else None
        if value is not None:
            draft = with_value(draft, choice, value, evidence=Evidence.PROVED, reason=AS_YOU_SAID)
    return draft


def normed(draft: Draft, image_stats: bool | None) -> Draft:
    """`draft` with BatchNorms that use each image's own statistics, or the file's, as the user says.

    Raises `GanportError` where it has none, and for a generator of latents.
    """
    if image_stats is None:
        return draft
    taken = draft.spec.interface.input
    if taken is None or not any(isinstance(layer, L.BatchNorm) for layer in draft.spec.layers):
        raise GanportError(
            f"it {'takes latents' if taken is None else 'has no BatchNorm'}, and `image_stats` is for networks with "
            "BatchNorms that take images",
            hint="leave out `image_stats`",
        )
    draft = by_image(draft) if image_stats else draft
    for choice in draft.choices:
        if choice.field == "norm":
            draft = replaced(draft, replace(choice, evidence=Evidence.PROVED, reason=AS_YOU_SAID))
    return draft


def by_image(draft: Draft) -> Draft:
    """`draft`, which takes images, with BatchNorms that use each image's own statistics, as in train mode with a single
    image. What needs all of an image has no tiles."""
    layers = tuple(
        L.InstanceNorm(layer.features, layer.eps, layer.affine, as_=layer.as_)
        if isinstance(layer, L.BatchNorm)
        else layer
        for layer in draft.spec.layers
    )
    weights = [
        {own: held[own] for own in layer.tensors()} if isinstance(layer, L.InstanceNorm) else held
        for layer, held in zip(layers, draft.weights, strict=True)
    ]
    taken = draft.spec.interface.input
    assert taken is not None
    interface = replace(draft.spec.interface, input=replace(taken, halo=None))
    choices = [
        replace(choice, value=layers[choice.layer].to_json()) if choice.field == "norm" and choice.layer else choice
        for choice in draft.choices
    ]
    spec = replace(draft.spec, interface=interface, layers=layers)
    return replace(draft, spec=spec, weights=tuple(weights), choices=tuple(choices))


CODE_ODDS = 1000.0
"""What the author's code is worth against another value: it may have been edited since."""


def heard(draft: Draft, facts: Sequence[Fact], tensors: Mapping[str, Tensor]) -> Draft:
    """`draft` of `tensors` with what the author's code says: of what is open, as evidence beside that of the
    statistics. Where those contradict the code in one place it is not heard in any, and a note says so. Where code says
    one activation throughout, layers that have none do not contradict it. What rests on a family's habit alone is
    opened."""
    owners = {id(tensor): name.rpartition(".")[0] for name, tensor in tensors.items()}
    for field in dict.fromkeys(fact.field for fact in facts):
        said = [fact for fact in facts if fact.field == field]
        if field == BEYOND:
            draft = _beyond(draft, said[0])
        elif field == ORDER:
            draft = _ordered(draft, said[0], owners)
        elif field == "crop":
            draft = _cropped(draft, said[0])
        elif field == "output" and said[0].value["value_range"] is None:
            draft = _bare(draft, said[0])
        elif said[0].place:
            draft = _heard(draft, [(c, fact) for fact in said if (c := _at(draft, fact, owners)) is not None])
        else:
            choices = [choice for choice in draft.choices if choice.field == field]
            if field == "merge":  # z and a label are joined otherwise where the label is as wide
                choices = [c for c in choices if said[0].value in (c.value, *c.alternatives)]
            if field == "activation":
                choices = [choice for choice in choices if not before_reshape(draft, choice)] or choices
            draft = _heard(draft, [(c, said[0]) for c in choices if not (c.evidence.settled and _none(c))])
    return draft


BARE_ODDS, DECODED_ODDS = 1.5, 5.0
"""What code without an activation at its end is worth, as its author may squash the values where they are drawn; and
what a decoder's sigmoid is worth beside such code: a loss of logits is usual."""


def _bare(draft: Draft, fact: Fact) -> Draft:
    """`draft`, whose code has no activation at its end."""
    choice = next((c for c in draft.choices if c.field == "output"), None)
    if choice is None or choice.evidence.settled:
        return draft
    if choice.odds is not None:
        return replaced(draft, replace(choice, odds=min(choice.odds, DECODED_ODDS)))
    value = fact.value | {"value_range": choice.value["value_range"]}
    reason = f"the author's code ends without one: {fact.where}"
    draft = with_value(draft, choice, value, evidence=Evidence.WEAK, reason=reason)
    return replaced(draft, replace(find_choice(draft, choice.layer, "output"), odds=BARE_ODDS, habit=False))


ATTENDS = ("bmm", "matmul", "softmax", "einsum")


def _beyond(draft: Draft, fact: Fact) -> Draft:
    """`draft`, contradicted by code that does more than a list of layers says; an activation behind a label is in the
    label's table, and self-attention is one layer, behind which the code is not followed."""
    if fact.place and isinstance(draft.spec.layers[0], L.LabelEmbedding):
        return draft
    attends = any(isinstance(layer, L.Attention) for layer in draft.spec.layers)
    if attends and any(f"computes {word} " in fact.value for word in ATTENDS):
        return draft
    return replace(draft, contradiction=f"the author's code {fact.value}, which no list of layers says: {fact.where}")


def _ordered(draft: Draft, fact: Fact, owners: Mapping[int, str]) -> Draft:
    """`draft`, contradicted by code that runs its layers in another order; when a label's table runs says nothing."""
    drafted = [
        next((owners[id(t)] for t in held.values() if id(t) in owners), "")
        for layer, held in zip(draft.spec.layers, draft.weights, strict=True)
        if not isinstance(layer, L.LabelEmbedding)
    ]
    ran = [name for name in fact.value if name in drafted]
    if ran == [name for name in drafted if name in ran]:
        return draft
    return replace(draft, contradiction=f"the author's code runs {', '.join(ran)} in this order: {fact.where}")


def _cropped(draft: Draft, fact: Fact) -> Draft:
    """`draft`, contradicted by code that cuts images of another size out of what its layers make."""
    _, height, width = draft.spec.interface.image
    if (height, width) == (fact.value, fact.value):
        return draft
    cut = f"cuts {fact.value}x{fact.value} pixels out of {width}x{height}"
    return replace(draft, contradiction=f"the author's code {cut}, which no list of layers says: {fact.where}")


def _at(draft: Draft, fact: Fact, owners: Mapping[int, str]) -> Choice | None:
    """The choice of `draft` that a fact of one place is about; None where it has none there."""
    names = [next((owners[id(t)] for t in held.values() if id(t) in owners), "") for held in draft.weights]
    if fact.place not in names:
        return None
    here = names.index(fact.place)
    following = next((i for i in range(here + 1, len(names)) if names[i]), len(names))
    places = (here,) if fact.field == "eps" else range(here + 1, following)
    return next((c for c in draft.choices if c.field == fact.field and c.layer in places), None)


def _heard(draft: Draft, said: Sequence[tuple[Choice, Fact]]) -> Draft:
    """`draft` with what the code says of some of its choices."""
    asked = [(choice, fact) for choice, fact in said if choice.evidence is not Evidence.PROVED]
    opened = [(c, fact) for c, fact in asked if not (c.evidence.settled and same(c.field, c.value, fact.value))]
    weigher = Weigher(draft, SAMPLES, SAMPLES)
    against = [_odds_against(weigher, draft, choice, fact) for choice, fact in opened]
    if max(against, default=1.0) >= CODE_ODDS:
        worst = max(range(len(opened)), key=lambda i: against[i])
        return replace(draft, notes=(*draft.notes, f"the author's code says otherwise: {opened[worst][1].where}"))
    written = [fact.value for _, fact in said if fact.value != IDENTITY]
    tied = all(same(opened[0][0].field, value, written[0]) for value in written) if opened else True
    for (choice, fact), own in zip(opened, against, strict=True):
        odds = CODE_ODDS ** (1.0 / len(opened)) / own
        value = fact.value if odds >= 1.0 else choice.value
        draft = with_value(draft, choice, value, evidence=Evidence.WEAK, reason=fact.where)
        found = replace(find_choice(draft, choice.layer, choice.field), odds=max(odds, 1.0 / odds), habit=False)
        if fact.place and odds >= 1.0 and not (tied and fact.value != IDENTITY):  # no one value for all is weighed
            found = replace(found, evidence=Evidence.STRONG, odds=CODE_ODDS / own)
        draft = replaced(draft, found)
    return draft


def _none(choice: Choice) -> bool:
    """Whether a choice says that there is no activation."""
    return choice.field == "activation" and choice.value["name"] == "identity"


def _odds_against(weigher: Weigher, draft: Draft, choice: Choice, fact: Fact) -> float:
    """The statistics' odds for a choice over what the code says of it; 1 where they show nothing."""
    if same(choice.field, choice.value, fact.value):
        return 1.0 / (choice.odds or 1.0)
    unseen = choice.odds is None and (choice.habit or not choice.evidence.settled)
    if unseen or segment_of(draft, choice) >= len(witnesses(draft)):
        return 1.0
    with torch.inference_mode():
        rival = with_value(draft, choice, fact.value)
        return weigher.odds(rival, segment_of(draft, choice))
