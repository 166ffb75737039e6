"""What a person sees of a training: pictures, the bar, the stop."""

from __future__ import annotations

import io
import os
import re
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.errors import GanportError, MissingPackageError
from gan_trainer import devices, pictures
from gan_trainer.loop import StopRequest
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import build
from gan_trainer.progress import clock, loss_line
from gan_trainer.recipes import Loss
from gan_trainer.report.charts import smooth
from gan_trainer.state import History
from gan_trainer.terminal import Bar
from trainer.conftest import fake_cuda

pytestmark = pytest.mark.slow


def test_exact_samples(tmp_path: Path) -> None:
    images_NCHW = torch.linspace(-1, 1, 4 * 3 * 8 * 8).reshape(4, 3, 8, 8)
    pictures.save_samples(images_NCHW, tmp_path / "a.png", 2, "exact")
    with Image.open(tmp_path / "a.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (22, 22))
        corner, last = picture.getpixel((2, 2)), picture.getpixel((19, 19))
    assert (corner, last) == ((0, 21, 43), (212, 234, 255))


def test_save_image_samples_are_torchvisions(tmp_path: Path) -> None:
    from torchvision.utils import save_image

    images_NCHW = torch.randn(9, 1, 8, 8) / 10
    pictures.save_samples(images_NCHW, tmp_path / "ours.png", 8, "save_image")
    save_image(images_NCHW, tmp_path / "theirs.png", nrow=8, normalize=True)
    with Image.open(tmp_path / "ours.png") as ours, Image.open(tmp_path / "theirs.png") as theirs:
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))
        assert ours.size == (8 * 10 + 2, 2 * 10 + 2)
        assert ours.getextrema()[0] == (0, 255), "stretched"


def test_save_image_without_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchvision.utils", None)
    with pytest.raises(MissingPackageError):
        pictures.save_samples(torch.zeros(1, 1, 8, 8), tmp_path / "a.png", 8, "save_image")


def test_drawing_leaves_the_generator_as_it_was() -> None:
    generator = build(network_spec("dcgan", 28, 1, width=1, z_dim=3)).train()
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    images_NCHW = pictures.draw_seeds(generator, range(70))
    assert images_NCHW.shape == (70, 1, 28, 28)
    assert generator.training
    assert all(torch.equal(before[name], tensor) for name, tensor in generator.state_dict().items())
    torch.testing.assert_close(images_NCHW[66:], pictures.draw_seeds(generator, range(66, 70)))


@pytest.mark.parametrize(("steps", "loss"), [(1, "bce"), (3, "wasserstein"), (700, "bce")])
def test_loss_curves_of_any_length(steps: int, loss: Loss, tmp_path: Path) -> None:
    history = History()
    history.extend(torch.rand(steps, 5))
    pictures.plot_losses(history, tmp_path / "losses.png", loss)
    with Image.open(tmp_path / "losses.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or ()}
        assert picture.size == (900, 600)
        assert (255, 127, 14) in colours, "Loss_G is drawn"


def test_smooth_is_a_mean() -> None:
    values = np.random.default_rng(0).random(500).astype(np.float32)
    smoothed = smooth(values)
    assert smoothed[250] == pytest.approx(values[245:256].mean())
    assert smoothed[0] == pytest.approx(values[:6].mean())
    assert smooth(values[:1]) == pytest.approx(values[:1])


@pytest.mark.parametrize(("n", "frames"), [(1, 1), (5, 5), (200, pictures.MAX_FRAMES)])
def test_animation(n: int, frames: int, tmp_path: Path) -> None:
    files = []
    for index in range(n):
        files.append(tmp_path / f"{index:03}.png")
        Image.new("L", (16, 16), index * 37 % 256).save(files[-1])
    pictures.animate(files, tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as animation:
        assert animation.n_frames == frames  # type: ignore[attr-defined]
        animation.seek(frames - 1)
        assert abs(animation.convert("L").getpixel((8, 8)) - (n - 1) * 37 % 256) < 4  # type: ignore[operator]


@pytest.mark.parametrize("channels", [1, 3])
def test_real_beside_fake(channels: int, tmp_path: Path) -> None:
    black, white = (np.full((5, 8, 8, channels), value, np.uint8) for value in (0, 255))
    pictures.compare(black, white, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        width, height = picture.size
        left, right = (picture.convert("L").crop((x, 60, x + width // 2, height)) for x in (0, width // 2))
    means = [np.asarray(side).mean() for side in (left, right)]
    assert means[0] < means[1] - 20


def test_small_pixels_stay_sharp_beside_each_other(tmp_path: Path) -> None:
    checks = np.tile(np.indices((32, 32)).sum(0) % 2 * 255, (64, 1, 1)).astype(np.uint8)[..., None]
    pictures.compare(checks, checks, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        values = np.asarray(picture.convert("L"))[60:, 20:-20]
    assert values.std() > 85, "not smoothed to grey"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_bar_away_from_a_terminal() -> None:
    stream = io.StringIO()
    progress = Bar(stream)
    progress.update(0.5, 10, 640)
    progress.line("hello")
    progress.close()
    assert stream.getvalue() == "hello\n"


def test_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("gan_trainer.progress.time.monotonic", lambda: now[0])
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    progress = Bar(stream)
    progress.update(0.0, 0, 0)
    assert stream.getvalue().endswith("  0%  step 0"), "neither speed nor time left is known"
    now[0] += 0.01
    progress.update(0.01, 1, 64)
    assert stream.getvalue().count("\r") == 1, "not drawn a hundred times a second"
    now[0] += 9.99
    progress.update(0.1, 10, 640)
    last = stream.getvalue().split("\r\x1b[K")[-1]
    assert re.fullmatch(r"\[###-{27}\]  10%  step 10  64 images/s  1:30 left", last), (
        "steps of ten seconds have a speed"
    )
    now[0] += 2
    progress.update(0.12, 12, 768)
    assert "64 images/s" in stream.getvalue().split("\r\x1b[K")[-1]
    progress.line("a line")
    assert stream.getvalue().endswith("\r\x1b[Ka line\n")
    progress.close()
    assert stream.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (7384, "2:03:04")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_loss_line() -> None:
    numbers = {"loss_d": 1, "loss_g": 2, "d_x": 0.5, "d_g_z1": 0.25, "d_g_z2": 0.125}
    line = loss_line(51, 25, 5, numbers)
    assert line == "step 51  epoch 3/5  loss D 1.000 G 2.000  D(x) 0.50  D(G(z)) 0.25 / 0.12"
    assert loss_line(50, 25, None, numbers).startswith("step 50  epoch 2  loss D ")
    assert len(loss_line(99_999, 500, 200, numbers)) < 80


@pytest.mark.parametrize(
    ("columns", "shown"), [(80, "x" * 60 + "  64 images/s"), (100, "x" * 60 + "  64 images/s  1:05 left")]
)
def test_a_terminal_shows_of_a_line_what_fits(columns: int, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    Bar(stream).line("x" * 60, "64 images/s", "1:05 left")
    assert stream.getvalue() == f"\r\x1b[K{shown}\n"


def test_time_left_in_a_log_file(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("gan_trainer.progress.time.monotonic", lambda: now[0])
    progress = Bar(io.StringIO())
    seen = [progress.left]
    for seconds, fraction in ((0, 0.5), (30, 0.75), (0, 1.0)):  # a resumed run: the half before was not timed
        now[0] += seconds
        progress.update(fraction, int(20 * fraction), int(1280 * fraction))
        seen.append(progress.left)
    assert seen == ["", "", "0:30 left", ""]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_second_insists(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_no_signals_outside_the_main_thread() -> None:
    results: list[bool] = []

    def work() -> None:
        with StopRequest() as stop:
            results.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [False]


@pytest.mark.parametrize(
    ("name", "ngpu", "present", "device"),
    [
        ("auto", 1, 0, "cpu"), ("auto", 1, 1, "cuda"), ("cpu", 1, 2, "cpu"), ("cuda", 1, 1, "cuda"),
        ("cuda:1", 1, 2, "cuda:1"), ("cuda", 2, 2, "cuda"), ("auto", 2, 4, "cuda"),
    ],
)  # fmt: skip
def test_devices(name: str, ngpu: int, present: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda(monkeypatch, present)
    assert devices.resolve(name, ngpu) == torch.device(device)


@pytest.mark.parametrize(
    ("name", "ngpu", "present", "message"),
    [
        ("cuda", 1, 0, "no CUDA device was found"),
        ("cuda:0", 1, 0, "no CUDA device was found"),
        ("cuda:1", 1, 1, "no device cuda:1, there is 1 CUDA device"),
        ("cuda:7", 1, 2, "no device cuda:7, there are 2 CUDA devices"),
        ("tpu", 1, 1, "unknown device 'tpu'"),
        ("", 1, 1, "unknown device ''"),
        ("cuda:", 1, 1, "unknown device 'cuda:'"),
        ("cuda:x", 1, 1, "unknown device 'cuda:x'"),
        ("cuda:-1", 1, 1, "unknown device 'cuda:-1'"),
        ("cpu:0", 1, 1, "unknown device 'cpu:0'"),
        ("cpu", 2, 4, "needs CUDA devices"),
        ("auto", 2, 0, "needs CUDA devices"),
        ("cuda:1", 2, 4, "takes the first 2 devices, `device` names cuda:1"),
        ("cuda", 8, 4, "`ngpu=8` asks for more devices than the 4"),
    ],
)
def test_devices_that_are_not_there(
    name: str, ngpu: int, present: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cuda(monkeypatch, present)
    with pytest.raises(GanportError, match=message):
        devices.resolve(name, ngpu)


def test_several_devices_share_a_batch_in_data_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn, "DataParallel", lambda network, ids: (network, ids))
    network = torch.nn.Linear(1, 1)
    assert devices.parallel(network, 1) is network
    shared: object = devices.parallel(network, 3)
    assert shared == (network, [0, 1, 2])
