// Where the page's images come from when there is no server: onnxruntime's WebAssembly runs the model, in a worker.
// `gan-export web` puts this module in the place of images.js; it has the same functions.
import { between, latent, noiseMaps, steps } from "./latents.js";
import { transformed } from "./picture.js";
import { png } from "./png.js";

export const WALK = "png"; // the suffix of an animation

const BATCH_PIXELS = 2 ** 17;
const WALK_PIXELS = 2 ** 25;
const KEPT = 256; // addresses of images; more than a page shows at a time
const WAITING = 512;
const about = JSON.parse(document.getElementById("generator").textContent);
const { width, height } = about.image;
const batch = Math.min(Math.max(Math.floor(BATCH_PIXELS / (width * height)), 1), 16);
const kept = new Map();
let worker;
let asked = 0;
const replies = new Map();
let groups = []; // of wishes; the last is served first, because the page has moved on from the others
let open = null;
let busy = false;

export async function models() {
  await started;
  const images = Math.min(Math.max(Math.floor(WALK_PIXELS / (width * height)), 24), 480);
  return [{ ...about, mixes_classes: false, limits: { images } }];
}

// A file of the site: inside the page, base64 of gzip, or beside this module.
async function content(name) {
  const inside = document.querySelector(`script[data-file="${name}"]`);
  if (!inside) {
    const reply = await fetch(new URL(name, import.meta.url));
    if (!reply.ok) throw new Error(`${name} did not come: ${reply.status}`);
    return reply.arrayBuffer();
  }
  const bytes = Uint8Array.from(atob(inside.textContent), (letter) => letter.charCodeAt(0));
  inside.remove();
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function start() {
  const here = (name) => new URL(name, import.meta.url).href;
  const threads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1;
  const values = { model: await content("model.onnx"), threads };
  if (document.querySelector("script[data-file]")) {
    const scripts = [await content("ort.wasm.min.js"), "\n", await content("worker.js")];
    worker = new Worker(URL.createObjectURL(new Blob(scripts, { type: "text/javascript" })));
    const loader = new Blob([await content("ort-wasm-simd-threaded.mjs")], { type: "text/javascript" });
    Object.assign(values, { mjs: await dataUrl(loader), binary: await content("ort-wasm-simd-threaded.wasm") });
  } else {
    worker = new Worker(here("worker.js"));
    Object.assign(values, { script: here("ort.wasm.min.js"), mjs: here("ort-wasm-simd-threaded.mjs"), wasm: here("ort-wasm-simd-threaded.wasm") });
  }
  worker.onmessage = ({ data: { number, answer, problem } }) => {
    const { resolve, reject } = replies.get(number);
    replies.delete(number);
    if (problem === undefined) resolve(answer);
    else reject(new Error(problem));
  };
  worker.onerror = (event) => {
    for (const { reject } of replies.values()) reject(new Error(event.message || "the model's worker does not start"));
    replies.clear();
  };
  await tell({ start: values });
}

function dataUrl(blob) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(blob);
  });
}

function tell(message) {
  return new Promise((resolve, reject) => {
    replies.set(++asked, { resolve, reject });
    worker.postMessage({ number: asked, ...message });
  });
}

const started = start();
started.catch(() => {}); // models() says so

// The pixels of one wish, {z, label, psi, noise, seed} or {w, noise}: (height, width, channels) of uint8. It waits until its batch has run.
function pixels(wish) {
  return new Promise((resolve, reject) => {
    if (!open) {
      open = [];
      groups.push(open);
      setTimeout(() => {
        open = null;
        serve();
      });
    }
    open.push({ ...wish, resolve, reject });
  });
}

async function serve() {
  if (busy) return;
  busy = true;
  while (groups.length) {
    while (groups.length > 1 && groups.reduce((total, group) => total + group.length, 0) > WAITING) groups.shift();
    const group = groups.at(-1);
    const wishes = group.splice(0, batch);
    if (!group.length) groups = groups.filter((each) => each !== group);
    if (group === open) open = null;
    try {
      const rows = await made(feedsOf(wishes), "pixels", wishes.length);
      wishes.forEach(({ resolve }, index) => resolve(rows[index]));
    } catch (error) {
      for (const { reject } of wishes) reject(error);
    }
  }
  busy = false;
}

// An output of the model, each of its n rows apart.
async function made(feeds, output, n) {
  const data = await tell({ feeds, output });
  return Array.from({ length: n }, (_, row) => data.subarray((row * data.length) / n, ((row + 1) * data.length) / n));
}

function feedsOf(wishes) {
  const dims = [wishes.length];
  const rows = (vectors, ...shape) => {
    const size = shape.reduce((product, side) => product * side, 1);
    const data = new Float32Array(wishes.length * size); // zeros where a wish has none
    vectors.forEach((vector, index) => data.set(vector || [], index * size));
    return { type: "float32", data, dims: [...dims, ...shape] };
  };
  const feeds = { z: rows(wishes.map(({ z }) => z), about.z_dim) };
  if (about.classes) feeds.label = { type: "int64", data: BigInt64Array.from(wishes, ({ label }) => BigInt(label ?? 0)), dims };
  const scalars = (value) => ({ type: "float32", data: Float32Array.from(wishes, value), dims });
  if (about.noise) feeds.noise = scalars(({ noise }) => (noise === 0 ? 0 : 1));
  if (about.noise_maps) {
    const { size, law } = about.noise_maps;
    const seeded = wishes.map(({ noise }) => noise === "seed");
    const maps = wishes.map(({ seed }, index) => seeded[index] && noiseMaps(seed, size, law));
    feeds.noise_maps = seeded.includes(true) ? rows(maps, size) : { type: "float32", data: new Float32Array(size), dims: [1, size] };
    feeds.own_noise = { type: "bool", data: Uint8Array.from(seeded), dims: [...dims, 1] };
  }
  if (about.styles) {
    const { num_ws, w_dim } = about.styles;
    feeds.psi = scalars(({ psi }) => psi ?? 1);
    feeds.w = rows(wishes.map(({ w }) => w), num_ws, w_dim);
    feeds.from_w = { type: "bool", data: Uint8Array.from(wishes, ({ w }) => (w ? 1 : 0)), dims };
  }
  return feeds;
}

const latentOf = (seed, truncation) => latent(seed, about.z_dim, about.latent, truncation);
const labelOf = (seed, label) => (label === null || label === "" ? seed % about.classes : label);

async function address(frames, size = about.image) {
  const bytes = await png(frames, size.width, size.height, size.channels);
  return URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
}

function keep(key, made) {
  const url = kept.get(key) ?? made();
  kept.delete(key);
  kept.set(key, url);
  url.catch(() => kept.delete(key));
  while (kept.size > KEPT) {
    const [oldest, old] = kept.entries().next().value;
    kept.delete(oldest);
    old.then(URL.revokeObjectURL, () => {});
  }
  return url;
}

export async function image(model, seed, { label = null, truncation = null, psi = null, noise = null, towards = null, step = null } = {}) {
  return keep(JSON.stringify([seed, label, truncation, psi, noise, towards, step]), async () => {
    let z = latentOf(seed, truncation);
    if (towards !== null) z = between(z, latentOf(towards, truncation), step, about.latent);
    return address([await pixels({ z, label: labelOf(seed, label), psi, noise, seed })]);
  });
}

export async function walk(model, seeds, { labels = null, truncation = null, psi = null, noise = null, frames = null } = {}) {
  const latents = seeds.map((seed) => latentOf(seed, truncation));
  const classes = seeds.map((seed, index) => (labels ? labels[index % labels.length] : labelOf(seeds[0], null)));
  const way = steps(seeds.length, frames ?? 40 * seeds.length);
  return keep(JSON.stringify(["walk", seeds, labels, truncation, psi, noise, frames]), async () => {
    const keys = latents.map((z, index) => ({ z, label: classes[index], psi }));
    const styles = about.styles && (await made(feedsOf(keys), "styles", keys.length));
    const shown = way.map(({ before, after, part }) => {
      if (styles) return pixels({ w: styles[before].map((x, i) => x * (1 - part) + styles[after][i] * part), noise });
      const z = between(latents[before], latents[after], part, about.latent);
      return pixels({ z, label: classes[part < 0.5 ? before : after], noise });
    });
    return address(await Promise.all(shown));
  });
}

export async function transform(model, picture) {
  const run = (input) => tell({ feeds: { input }, output: "pixels" });
  const result = await transformed(picture, about.takes, about.image.channels, run);
  return address([result.pixels], result);
}
