"""Layers that join the class label with the latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gan_core.fields import Classes, Features, Shape
from gan_core.spec.layer import Layer, expect

Merge = Literal["z_label", "label_z", "multiply"]


@dataclass(frozen=True)
class LabelEmbedding(Layer):
    """torch.nn.Embedding of the label, joined with the latent vector; weight (n_classes, dim).

    merge "z_label" concatenates (z, embedding), "label_z" (embedding, z), "multiply" takes the product
    (then dim is z_dim). Only as the first layer, or after a reshape of z to a vector.
    """

    kind: ClassVar[str] = "label_embedding"
    n_classes: Classes
    dim: Features
    merge: Merge = "z_label"

    @property
    def classes(self) -> int:
        return self.n_classes

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(len(shape) == 1, f"joins a latent vector, gets {shape}")
        if self.merge == "multiply":
            expect(shape == (self.dim,), f"multiplies a vector of {self.dim}, gets {shape}")
            return shape
        return (shape[0] + self.dim,)

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.n_classes, self.dim)}

    def words(self) -> str:
        return f"label_embedding {self.n_classes} x {self.dim}, {self.merge}"

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.Embedding(self.n_classes, self.dim)

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return _join(torch, x, module(beside[0]), self.merge)


@dataclass(frozen=True)
class LabelOneHot(Layer):
    """The label as a one-hot vector, concatenated with the latent; owns no tensors."""

    kind: ClassVar[str] = "label_one_hot"
    n_classes: Classes
    merge: Literal["z_label", "label_z"] = "z_label"

    @property
    def classes(self) -> int:
        return self.n_classes

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(len(shape) == 1, f"joins a latent vector, gets {shape}")
        return (shape[0] + self.n_classes,)

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        classes = torch.arange(self.n_classes, device=beside[0].device)
        return _join(torch, x, (beside[0].unsqueeze(1) == classes).to(x.dtype), self.merge)


def _join(torch: Any, z: Any, embedded: Any, merge: Merge) -> Any:
    if merge == "multiply":
        return z * embedded
    return torch.cat((z, embedded) if merge == "z_label" else (embedded, z), dim=1)
