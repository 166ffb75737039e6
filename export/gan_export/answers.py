"""What the user says of a checkpoint that does not say it itself. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gan_serve.latents import LatentLaw

OUTPUT_RANGES: dict[str, tuple[float, float]] = {
    "tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "identity": (-1.0, 1.0),
}
"""Output activations that can be asked for, and the values of (black, white) that each goes with."""


@dataclass(frozen=True)
class Answers:
    """What the user says of a checkpoint that does not say it itself. None and False: not said.

    key, raw, trust_pickle   see `gan_export.reading.read_checkpoint`
    spec                     a JSON file of the whole `GeneratorSpec`
    image                    (C, H, W) of the images
    latent                   the latent law
    output                   the output activation, one of `OUTPUT_RANGES`
    value_range              the output values of (black, white)
    accept                   take the draft's assumptions as they are
    """

    key: str | None = None
    raw: bool = False
    trust_pickle: bool = False
    spec: Path | None = None
    image: tuple[int, int, int] | None = None
    latent: LatentLaw | None = None
    output: str | None = None
    value_range: tuple[float, float] | None = None
    accept: bool = False

    def as_options(self) -> list[str]:
        """The command-line options that say the same, `--accept` apart."""
        words: list[str] = []
        if self.key is not None:
            words += ["--key", self.key]
        words += ["--raw"] * self.raw + ["--trust-pickle"] * self.trust_pickle
        if self.spec is not None:
            words += ["--spec", str(self.spec)]
        if self.image is not None:
            words += ["--image", "x".join(map(str, self.image))]
        if self.latent is not None:
            words += ["--latent", self.latent]
        if self.output is not None:
            words += ["--output-activation", self.output]
        if self.value_range is not None:
            words.append("--value-range={:g},{:g}".format(*self.value_range))
        return words
