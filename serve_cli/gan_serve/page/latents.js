// Latents from seeds, as docs/latents.md specifies them: the same image for a seed as in Python. No imports, so that
// any program can take this file along.

const LARGEST = 1 - 2 ** -32; // of a uniform component, on a walk

// The upper 32 bits of a product of two 32-bit numbers, in float64: all sums stay below 2 ** 53.
function high(a, b) {
  const [a1, a0, b1, b0] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const first = a1 * b0 + ((a0 * b0) >>> 16);
  const second = a0 * b1 + (first % 65536);
  return a1 * b1 + Math.floor(first / 65536) + Math.floor(second / 65536);
}

// Philox4x32-10: a counter of four 32-bit words and a key of two make four words.
export function philox(counter, key) {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    [c0, c1, c2, c3] = [
      (high(0xcd9e8d57, c2) ^ c1 ^ k0) >>> 0, Math.imul(0xcd9e8d57, c2) >>> 0,
      (high(0xd2511f53, c0) ^ c3 ^ k1) >>> 0, Math.imul(0xd2511f53, c0) >>> 0,
    ];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

function components(seed, zDim, law, round, purpose = 0) {
  const key = [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
  const z = [];
  for (let block = 0; z.length < zDim; block++) {
    const u = philox([block, round, purpose, 0], key).map((word) => (word + 0.5) / 2 ** 32);
    if (law !== "normal") {
      z.push(...(law === "uniform" ? u.map((x) => 2 * x - 1) : u));
      continue;
    }
    for (const i of [0, 2]) {
      const radius = Math.sqrt(-2 * Math.log(u[i]));
      const angle = 2 * Math.PI * u[i + 1];
      z.push(radius * Math.cos(angle), radius * Math.sin(angle));
    }
  }
  return z.slice(0, zDim);
}

// The latent of a seed, 0 ... 2 ** 53 - 1, as a Float32Array. `law` is "normal", "uniform" or "uniform01"; `truncation` is null or 0.05 and more.
export function latent(seed, zDim, law = "normal", truncation = null) {
  if (!Number.isSafeInteger(seed) || seed < 0) throw new RangeError(`a seed is a whole number from 0 to 2^53 - 1, got ${seed}`);
  if (!["normal", "uniform", "uniform01"].includes(law)) throw new RangeError(`a latent is normal, uniform or uniform01, got ${law}`);
  if (truncation !== null && !(truncation >= 0.05)) throw new RangeError(`a truncation is 0.05 or more, got ${truncation}`);
  const most = truncation ?? Infinity;
  let z = components(seed, zDim, law, 0);
  if (law !== "normal") {
    const centre = law === "uniform01" ? 0.5 : 0;
    return Float32Array.from(z, (x) => centre + (x - centre) * Math.min(most, 1));
  }
  for (let round = 1; z.some((x) => Math.abs(x) > most); round++) {
    const again = components(seed, zDim, law, round);
    z = z.map((x, i) => (Math.abs(x) > most ? again[i] : x));
  }
  return Float32Array.from(z);
}

// The noise of a seed inside a generator: `size` numbers of N(0, 1), or of U(0, 1) for "uniform", as a Float32Array.
export function noiseMaps(seed, size, law = "normal") {
  return Float32Array.from(components(seed, size, law, 0, 1), law === "uniform" ? (x) => x / 2 + 0.5 : (x) => x);
}

// The point at `t`, from 0 to 1, of the great circle from latent `a` to `b`. Uniform latents pass through normal ones.
export function between(a, b, t, law = "normal") {
  if (law === "uniform01") {
    const [from, to] = [a, b].map((end) => Float32Array.from(end, (x) => 2 * x - 1));
    return between(from, to, t, "uniform").map((x) => x / 2 + 0.5);
  }
  const [from, to] = law === "uniform" ? [[...a].map(inverseErf), [...b].map(inverseErf)] : [a, b];
  const sum = (term) => from.reduce((total, _, i) => total + term(from[i], to[i]), 0);
  const lengths = Math.sqrt(sum((x) => x * x)) * Math.sqrt(sum((_, y) => y * y));
  const angle = Math.acos(Math.min(Math.max(sum((x, y) => x * y) / (lengths || 1), -1), 1));
  const straight = Math.sin(angle) < 1e-6;
  const weight = (part) => (straight ? part : Math.sin(part * angle) / Math.sin(angle));
  const z = Array.from(from, (x, i) => weight(1 - t) * x + weight(t) * to[i]);
  return Float32Array.from(z, law === "uniform" ? erf : (x) => x);
}

// The way of a closed walk through `stops` seeds in `frames` frames, as gan-gen walks: of each frame the index of the
// seed before it, of the one after it, and the part of the way between them.
export function steps(stops, frames) {
  return Array.from({ length: frames }, (_, frame) => {
    const position = (frame * stops) / frames;
    const leg = Math.floor(position);
    return { before: leg % stops, after: (leg + 1) % stops, part: position - leg };
  });
}

// A series whose terms are all positive, so that nothing is lost by subtraction.
function erf(x) {
  let term = x;
  let total = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(total); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    total += term;
  }
  return Math.max(-1, Math.min(1, (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * total));
}

// Newton's method from 0, which approaches from below: erf is concave there.
function inverseErf(z) {
  const wanted = Math.min(Math.abs(z), LARGEST);
  let x = 0;
  for (let n = 0; n < 100; n++) {
    const step = ((wanted - erf(x)) * Math.sqrt(Math.PI) * Math.exp(x * x)) / 2;
    x += step;
    if (Math.abs(step) <= 1e-15 * x) break;
  }
  return z < 0 ? -x : x;
}
