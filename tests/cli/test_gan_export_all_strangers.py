"""Nothing of all the strangers' files that have a reference is exported unasked and wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gan_serve
from cli.conftest import Run
from real_files import FOLDER

SUFFIXES = (".pt", ".pth", ".ckpt", ".pkl")
REFERENCES = sorted(FOLDER.rglob("*.reference.npz"))
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drafted_once")]
MISSING = f"the strangers' checkpoints are not in {FOLDER}; $GANPORT_CHECKPOINTS names their folder"


def name_of(reference: Path) -> str:
    return reference.name.removesuffix(".reference.npz")


SETTLED = ("conditional_mnist",)
"""Nothing is asked of this: every fact is in the file, or known of its kind."""
LONG = (
    *SETTLED,
    "mixed_faces32",
    "onehot_linear_concat",
    "vae_bilinear",
    "ends_in_resize",
    "nopad_rgb28",
    "pytorch_gan_variant",
    "train_mode_dcgan64",
    "upsample_sigmoid",
)
"""Their forensics take ten seconds to minutes."""


def checkpoint_of(reference: Path) -> Path:
    beside = reference.parent.glob(f"{name_of(reference)}.*")
    (checkpoint,) = (path for path in beside if path.suffix in SUFFIXES and "discriminator" not in path.name)
    return checkpoint


@pytest.mark.skipif(not REFERENCES, reason=MISSING)
@pytest.mark.parametrize(
    "reference",
    [
        pytest.param(path, marks=pytest.mark.long, id=name_of(path)) if name_of(path) in LONG else path
        for path in REFERENCES
    ],
    ids=name_of,
)
def test_what_is_exported_unasked_is_right(reference: Path, run: Run, tmp_path: Path) -> None:
    model = tmp_path / "g.onnx"
    code, out, err = run("onnx", "--ckpt", checkpoint_of(reference), "--out", model)
    if code:
        assert name_of(reference) not in SETTLED, err
        assert (code, out) == (2, "")
        assert "error: " in err
        assert "hint: " in err
        assert not model.exists()
        return
    with np.load(reference) as held:
        known = dict(held)
    generator = gan_serve.load(model)
    z = known["z"].reshape(len(known["z"]), -1).astype(np.float32)
    label = known["label"].astype(np.int64) if "label" in known else None
    assert generator.contract.interface.z_dim == z.shape[1]
    assert generator.contract.interface.conditional == (label is not None)
    image_NCHW, _ = generator.run(z, label)
    black, white = generator.contract.interface.value_range
    difference = np.abs(image_NCHW - known["image"].reshape(image_NCHW.shape)).max()
    assert difference / (white - black) <= 1 / 255
    if name_of(reference) in SETTLED:
        assert difference <= 1e-4
        code, out, err = run("verify", "--model", model, "--ckpt", checkpoint_of(reference))
        assert code == 0, err
        assert "proved against PyTorch" in out


FIRST = (
    "cvae_whole", "mlp_conditional", "mlp_mnist", "mlp_onehot", "mlp_pair", "mlp_z150", "mixed_faces32",
    "onehot_linear_concat", "ends_in_resize", "nopad_rgb28", "pytorch_gan_variant",
)  # fmt: skip
"""Those whose first candidate is the truth."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in FIRST]
)
def test_the_first_candidate_is_the_authors_generator(name: str, run: Run, tmp_path: Path) -> None:
    reference = next((path for path in REFERENCES if name_of(path) == name), None)
    if reference is None:
        pytest.skip(MISSING)
    model = tmp_path / "g.onnx"
    code, _, err = run("onnx", "--ckpt", checkpoint_of(reference), "--out", model, "--accept")
    assert code == 0, err
    with np.load(reference) as held:
        known = dict(held)
    z = known["z"].reshape(len(known["z"]), -1).astype(np.float32)
    label = known["label"].astype(np.int64) if "label" in known else None
    image_NCHW, _ = gan_serve.load(model).run(z, label)
    np.testing.assert_allclose(image_NCHW.reshape(known["image"].shape), known["image"], atol=1e-4)


def test_a_strangers_model_is_drawn_in_its_own_range(caplog: pytest.LogCaptureFixture) -> None:
    path = FOLDER / "second" / "stranger_vae.onnx"
    if not path.exists():
        pytest.skip(MISSING)
    generator = gan_serve.load(path)
    assert "black is 0 and white is 1" in caplog.text
    pixels_NHWC = generator.generate(range(4))
    assert pixels_NHWC.min() < 16
    assert generator.contract.interface.value_range == (0.0, 1.0)


def test_a_strangers_model_with_a_label_is_drawn_by_class(caplog: pytest.LogCaptureFixture) -> None:
    path = FOLDER / "second" / "stranger_cvae.onnx"
    if not path.exists():
        pytest.skip(MISSING)
    generator = gan_serve.load(path)
    assert "label is a class, 0 … 9" in caplog.text
    assert generator.contract.interface.n_classes == 10
    assert generator.generate(range(4), labels=[0, 1, 2, 3]).min() < 16
