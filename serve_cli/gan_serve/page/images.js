// Where the page's images come from. The page knows nothing but these functions; another build of it, without a
// server, has another module in this one's place.

export const WALK = "webp"; // the suffix of an animation

// The models: {name, version, image: {width, height, channels}, classes, class_names, mixes_classes, styles, noise,
// noise_maps, latent, limits, takes: null, or for a model of images {text, fixed}}.
export async function models() {
  const reply = await fetch("/v1/models");
  if (!reply.ok) throw new Error(`the server answers ${reply.status}`);
  return (await reply.json()).models;
}

function address(model, path, values) {
  const query = new URLSearchParams({ model: model.name, v: model.version });
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  return `/v1/${path}?${query}`;
}

// An address for <img> of one image. `label` is a class or null; `noise` is a factor, "seed" or null; `towards` and
// `step` go a part of the way to another seed.
export async function image(model, seed, { label = null, truncation = null, psi = null, noise = null, towards = null, step = null } = {}) {
  return address(model, `images/${seed}.png`, { class: label, truncation, psi, noise, towards, step });
}

// An address for <img> of a looping animation through seeds; `labels` are their classes, or null.
export async function walk(model, seeds, { labels = null, truncation = null, psi = null, noise = null, frames = null } = {}) {
  const list = seeds.join(",");
  return address(model, "walk.webp", { seeds: list, class: labels && labels.join(","), truncation, psi, noise, frames });
}

// An address for <img> of what the model makes of a picture (a Blob). Models with `takes` have it in the place of seeds.
export async function transform(model, picture) {
  const headers = { "Content-Type": picture.type.startsWith("image/") ? picture.type : "application/octet-stream" };
  const query = new URLSearchParams({ model: model.name, resize: model.takes.fixed ? 1 : 0 });
  const reply = await fetch(`/v1/images?${query}`, { method: "POST", headers, body: picture });
  if (!reply.ok) throw new Error((await reply.json()).error);
  return URL.createObjectURL(await reply.blob());
}
