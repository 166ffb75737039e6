"""The distribution of latents: published vectors for Philox, docs/latents.md's own, invariances."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_core.arrays import F32
from gan_core.errors import GanportError
from gan_core.interface import Interface
from gan_core.latents import (
    LATENT_LAWS,
    SEED_LIMIT,
    LatentLaw,
    Seeds,
    latents,
    noise_maps,
    philox4x32,
    with_seeds,
    without_seeds,
)
from gan_serve.runtime.walk import Walk

DOCUMENT = (Path(__file__).parents[2] / "docs" / "latents.md").read_text(encoding="utf-8")

# Random123's kat_vectors, lines "philox4x32 10": counter, key, result.
RANDOM123 = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> tuple[np.ndarray, ...]:
    return tuple(np.array([int(word, 16)], np.uint32) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "expected"), RANDOM123)
def test_philox_gives_the_published_words(counter: str, key: str, expected: str) -> None:
    result = philox4x32(words(counter), words(key))  # type: ignore[arg-type]
    assert " ".join(f"{int(word[0]):08x}" for word in result) == expected
    assert f"| `{counter}` | `{key}` | `{expected}` |" in DOCUMENT


def by_hand(seed: int, z_dim: int, law: str, round_index: int = 0, purpose: int = 0) -> list[float]:
    """The law again, in plain Python integers and floats."""
    z: list[float] = []
    for block in range(-(-z_dim // 4)):
        counter, key = [block, round_index, purpose, 0], [seed & 0xFFFFFFFF, seed >> 32]
        for _ in range(10):
            first, second = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
            counter = [
                (second >> 32) ^ counter[1] ^ key[0],
                second & 0xFFFFFFFF,
                (first >> 32) ^ counter[3] ^ key[1],
                first & 0xFFFFFFFF,
            ]
            key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
        u = [(word + 0.5) / 2**32 for word in counter]
        if law == "uniform":
            z += [2 * x - 1 for x in u]
        elif law == "uniform01":
            z += u
        else:
            for a, b in ((u[0], u[1]), (u[2], u[3])):
                radius = math.sqrt(-2 * math.log(a))
                z += [radius * math.cos(2 * math.pi * b), radius * math.sin(2 * math.pi * b)]
    return z[:z_dim]


@pytest.mark.parametrize("law", LATENT_LAWS)
@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 - 1, 2**32, 123_456_789_012_345, 2**53 - 1])
def test_latents_follow_the_law_written_out(seed: int, law: str) -> None:
    np.testing.assert_allclose(latents([seed], 11, law)[0], by_hand(seed, 11, law), rtol=1e-6, atol=1e-7)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [0, 7, 2**24 - 1, 2**32 + 5, 2**53 - 1])
def test_noise_follows_the_law_written_out_and_goes_with_its_latent(seed: int) -> None:
    seeds = np.array([3, seed], np.int64)
    normal, uniform = noise_maps(seeds, 9, "normal"), noise_maps(seeds, 9, "uniform")
    np.testing.assert_allclose(normal[1], by_hand(seed, 9, "normal", purpose=1), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(uniform[1] * 2 - 1, by_hand(seed, 9, "uniform", purpose=1), rtol=1e-5, atol=1e-6)
    z, behind = without_seeds(with_seeds(latents(seeds, 5), seeds), 5)
    np.testing.assert_array_equal(z, latents(seeds, 5))
    assert behind is not None
    assert behind.tolist() == [3, seed]
    assert without_seeds(z, 5)[1] is None


def documented_vectors() -> list[tuple[int, str, float | None, list[float]]]:
    found = re.findall(
        r"^\| (\S+|2⁵³ − 1) \| (normal|uniform|uniform01) \| (\S+) \| `([^`]+)` \|$", DOCUMENT, re.MULTILINE
    )
    return [
        (
            SEED_LIMIT - 1 if seed.startswith("2⁵³") else int(seed),
            law,
            None if truncation == "none" else float(truncation),
            [float(number) for number in z.split()],
        )
        for seed, law, truncation, z in found
    ]


def test_documented_vectors_are_what_is_drawn() -> None:
    vectors = documented_vectors()
    assert {seed for seed, *_ in vectors} == {0, 1, 7, 2**53 - 1}
    assert len(vectors) == 24
    for seed, law, truncation, z in vectors:
        np.testing.assert_allclose(latents([seed], 5, law, truncation)[0], z, rtol=0, atol=6e-9 * 20)  # type: ignore[arg-type]


LATENTS_JS = Path(__file__).parents[2] / "serve_cli" / "gan_serve" / "page" / "latents.js"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node to run latents.js with")


def in_javascript(*expressions: str) -> Any:
    """The values of expressions on the functions of latents.js; typed arrays as lists."""
    code = f"import * as js from {json.dumps(LATENTS_JS.as_uri())};\n" + "".join(
        f"console.log(JSON.stringify(((value) => ArrayBuffer.isView(value) ? [...value] : value)({expression})));\n"
        for expression in expressions
    )
    shown = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def last_bits(found: list[float], expected: F32) -> int:
    """The largest distance of two float32 vectors, in units of the last place."""
    bits = np.array(found, np.float32).view(np.int32).astype(np.int64) - expected.view(np.int32)
    return int(np.abs(bits).max())


@needs_node
def test_javascript_makes_the_published_words() -> None:
    calls = [
        f"js.philox([{','.join(f'0x{word}' for word in counter.split())}], [{','.join(f'0x{k}' for k in key.split())}])"
        for counter, key, _ in RANDOM123
    ]
    shown = [" ".join(f"{word:08x}" for word in words) for words in in_javascript(*calls)]
    assert shown == [expected for *_, expected in RANDOM123]


@needs_node
def test_javascript_generates_the_documented_latents() -> None:
    vectors = documented_vectors()
    calls = [f"js.latent({seed}, 5, '{law}', {json.dumps(t)})" for seed, law, t, _ in vectors]
    for (*_, z), found in zip(vectors, in_javascript(*calls), strict=True):
        np.testing.assert_allclose(found, z, rtol=0, atol=6e-9 * 20)


@pytest.mark.slow
@needs_node
def test_javascript_generates_the_latents_of_python() -> None:
    cases: list[tuple[int, LatentLaw, float | None]] = [
        (seed, law, truncation)
        for seed in (0, 7, 2**32, 2**40 + 3, 2**53 - 1)
        for law in LATENT_LAWS
        for truncation in (None, 0.05, 0.4, 2.0)
    ]
    calls = [f"js.latent({s}, 301, '{law}', {json.dumps(t)})" for s, law, t in cases]
    for (seed, law, truncation), z in zip(cases, in_javascript(*calls), strict=True):
        assert last_bits(z, latents([seed], 301, law, truncation)[0]) <= 1
    for law in LATENT_LAWS:
        (maps,) = in_javascript(f"js.noiseMaps({2**40 + 3}, 77, '{law}')")
        assert last_bits(maps, noise_maps(np.array([2**40 + 3]), 77, law)[0]) <= 1


@needs_node
@pytest.mark.parametrize("law", LATENT_LAWS)
def test_javascript_walks_as_python_does(law: LatentLaw) -> None:
    interface = Interface(33, (1, 4, 4), latent=law)
    walk = Walk(interface, Seeds.of([5, 2**40, 7]), 11).latents(0, 11)
    named = f"[5, {2**40}, 7].map((seed) => js.latent(seed, 33, '{law}'))"
    each = f"({{ before, after, part }}) => [...js.between(ends[before], ends[after], part, '{law}')]"
    path = f"((ends) => js.steps(3, 11).map({each}))({named})"
    same = "js.between(js.latent(1, 4), js.latent(1, 4), 0.3)"
    *found, (again, opposite) = in_javascript(path, f"[[...{same}], [...js.between([1, 0], [-1, 0], 0.25)]]")
    for row, expected in zip(found[0], walk, strict=True):
        assert last_bits(row, expected) <= 1
    assert last_bits(again, latents([1], 4)[0]) <= 1
    np.testing.assert_allclose(opposite, [0.5, 0])


@needs_node
@pytest.mark.parametrize(
    "arguments",
    ["-1, 4", "2 ** 53, 4", "0.5, 4", "'7', 4", "7, 4, 'cauchy'", "7, 4, 'normal', 0.01", "7, 4, 'normal', NaN"],
)
def test_javascript_refuses_what_python_refuses(arguments: str) -> None:
    refused = f"(() => {{ try {{ js.latent({arguments}); return ''; }} catch (error) {{ return error.name; }} }})()"
    assert in_javascript(refused) == ["RangeError"]


def test_a_latent_does_not_depend_on_its_batch() -> None:
    together = latents(range(100, 140), 13)
    alone = np.concatenate([latents([seed], 13) for seed in range(100, 140)])
    backwards = latents(np.arange(139, 99, -1), 13)[::-1]
    assert together.dtype == np.float32
    assert together.flags.c_contiguous
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, backwards)


def test_shorter_latents_begin_as_longer_ones() -> None:
    np.testing.assert_array_equal(latents(range(5), 3), latents(range(5), 100)[:, :3])


def test_laws_have_their_moments() -> None:
    normal, uniform = latents(range(4000), 25), latents(range(4000), 25, "uniform")
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01
    assert abs(uniform.mean()) < 0.01
    assert abs(uniform.std() - 1 / math.sqrt(3)) < 0.01
    assert uniform.min() > -1
    assert uniform.max() < 1
    correlation = np.corrcoef(normal[:, 0], normal[:, 1])[0, 1]
    assert abs(correlation) < 0.06


def test_truncation_redraws_only_what_is_too_far_out() -> None:
    whole, cut = latents(range(500), 10), latents(range(500), 10, truncation=0.7)
    far = np.abs(whole) > 0.7
    assert np.abs(cut).max() <= np.float32(0.7)
    np.testing.assert_array_equal(cut[~far], whole[~far])
    # A truncated normal at 0.7: standard deviation 0.39.
    assert abs(cut.std() - 0.390) < 0.01
    np.testing.assert_array_equal(latents([3, 499], 10, truncation=0.7), cut[[3, 499]])
    first = int(np.flatnonzero(far[0])[0])
    rounds = (by_hand(0, 10, "normal", index)[first] for index in range(1, 20))
    np.testing.assert_allclose(cut[0][first], next(z for z in rounds if abs(z) <= 0.7), rtol=1e-6)


def test_truncation_of_a_uniform_latent_scales_it() -> None:
    whole = latents(range(9), 6, "uniform")
    np.testing.assert_allclose(latents(range(9), 6, "uniform", 0.5), whole * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(latents(range(9), 6, "uniform", 3.0), whole)
    whole = latents(range(9), 6, "uniform01")
    assert 0.0 < whole.min() < 0.1
    assert 0.9 < whole.max() < 1.0
    np.testing.assert_allclose(latents(range(9), 6, "uniform01", 0.5), whole * 0.5 + 0.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([-1], 4), "a seed must lie in 0 … 2**53 - 1, got -1"),
        (([2**53], 4), "a seed must lie in 0 … 2**53 - 1, got 9007199254740992"),
        ((range(2**53 - 1, 2**53 + 1), 4), "got 9007199254740992"),
        ((range(5, -2, -1), 4), "got -1"),
        ((range(10**30), 4), "a seed must lie in"),
        ((range(10**12), 4), "1000000000000 seeds at once, the most is 100000000"),
        (([0.5], 4), "one-dimensional sequence of integers"),
        ((["7"], 4), "one-dimensional sequence of integers"),
        ((np.zeros((2, 2), int), 4), "one-dimensional sequence of integers"),
        (([2**70], 4), "integers"),
        (([1], 0), "z_dim must be at least 1, got 0"),
        (([1], 4, "gaussian"), "latent distribution must be one of normal, uniform, uniform01, got 'gaussian'"),
        (([1], 4, "normal", 0.0), "`truncation` must be a finite number of at least 0.05, got 0.0"),
        (([1], 4, "normal", -1.0), "`truncation` must be"),
        (([1], 4, "normal", math.nan), "`truncation` must be"),
        (([1], 4, "uniform", math.inf), "`truncation` must be"),
    ],
)
def test_wrong_requests(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(GanportError, match=re.escape(message)):
        latents(*arguments)  # type: ignore[arg-type]
