// The page of gan-serve: a grid of seeds, one image large, its neighbours, a walk. The address holds what is shown.
import * as images from "./images.js";

const LAST = Number.MAX_SAFE_INTEGER;
const NO_TRUNCATION = 3;
const NEIGHBOURS = 8;
const MOST_STOPS = 12;
const part = (id) => document.getElementById(id);
const state = { model: "", first: 0, count: 24, label: "", truncation: null, noise: "", walk: [], own: false, seed: null, towards: null, step: null, near: null };
let all = [];
let drawn = 0;

const model = () => all.find((each) => each.name === state.model) ?? all[0];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const whole = (text, fallback, low, high) => (/^\d{1,16}$/.test(text ?? "") ? clamp(Number(text), low, high) : fallback);

function read() {
  const said = new URLSearchParams(location.hash.slice(1));
  const known = all.some((each) => each.name === said.get("model"));
  state.model = known ? said.get("model") : all[0].name;
  state.first = whole(said.get("first"), 0, 0, LAST);
  state.count = [24, 48, 96].find((each) => String(each) === said.get("count")) ?? 24;
  const label = whole(said.get("class"), -1, 0, LAST);
  state.label = label >= 0 && label < model().classes ? label : "";
  const truncation = Number.parseFloat(said.get("truncation"));
  state.truncation = truncation >= 0.2 && truncation < NO_TRUNCATION ? truncation : null;
  state.noise = noises().some(([value]) => value === said.get("noise")) ? said.get("noise") : "";
  const stops = (said.get("walk") ?? "").split(",").filter((each) => /^\d{1,16}(:\d{1,9})?$/.test(each));
  const there = ({ seed, label }) => seed <= LAST && (label === undefined || label < model().classes);
  state.walk = [...new Set(stops.map((each) => each.replace(/^0+(?=\d)/, "")))].filter((each) => there(stop(each))).slice(0, MOST_STOPS);
  state.own = said.get("own") === "1";
  state.seed = whole(said.get("seed"), null, 0, LAST);
  state.towards = whole(said.get("towards"), null, 0, LAST);
  state.step = state.towards === null ? null : clamp(Number.parseFloat(said.get("step")) || 0.2, 0, 1);
  const near = Number.parseFloat(said.get("near"));
  state.near = near >= 0.05 && near <= 0.6 ? near : null;
}

function write() {
  const said = new URLSearchParams();
  if (all.length > 1) said.set("model", state.model);
  said.set("first", state.first);
  if (state.count !== 24) said.set("count", state.count);
  if (state.label !== "") said.set("class", state.label);
  if (state.truncation !== null) said.set("truncation", state.truncation);
  if (state.noise) said.set("noise", state.noise);
  if (state.walk.length) said.set("walk", state.walk.join(","));
  if (state.own) said.set("own", 1);
  if (state.seed !== null) said.set("seed", state.seed);
  for (const name of state.towards === null ? [] : ["towards", "step"]) said.set(name, state[name]);
  if (state.seed !== null && state.near !== null) said.set("near", state.near);
  history.replaceState(null, "", `#${said}`);
}

// A stop of a walk is "7", or "7:2" where it was chosen in class 2.
const stop = (text) => (([seed, label]) => ({ seed, label }))(text.split(":").map(Number));
const stopOf = (seed) => (state.label === "" ? `${seed}` : `${seed}:${state.label}`);
const labelOf = (seed) => (model().classes ? (state.label === "" ? seed % model().classes : state.label) : null);
const className = (label) => (label === null ? "" : model().class_names[label] ?? `class ${label}`);
const named = (seed, label = labelOf(seed)) => [`seed ${seed}`, className(label)].filter(Boolean).join(", ");
// The slider bounds |z|, or is psi of a generator with styles.
const bounds = () => (model().styles ? { psi: state.truncation } : { truncation: state.truncation });
// Noise of the seed is for images of one seed; between seeds it is constant.
const noise = (seeded) => (state.noise === "none" ? 0 : state.noise === "seed" && seeded ? "seed" : null);
const options = (more = {}) => ({ label: state.label, ...bounds(), noise: noise(more.towards === undefined), ...more });
const noises = () => [["", "constant"], ...(model().noise_maps ? [["seed", "of each seed"]] : []), ["none", "none"]];

function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// An address that images.js promises; null where there is none, and the status says why.
async function arrived(source) {
  try {
    return await source;
  } catch (error) {
    missed(error.message);
    return null;
  }
}

function missed(why) {
  part("status").textContent = `An image did not come: ${why}. Change something to try again.`;
}

async function show(element, source, text) {
  element.alt = text;
  element.classList.toggle("small", Math.max(model().image.width, model().image.height) <= 128);
  element.width = model().image.width;
  element.height = model().image.height;
  element.onerror = () => {
    element.alt = `${text}: the image did not come`;
    missed("the server is busy or gone");
  };
  const address = await arrived(source);
  if (address) element.src = address;
}

function drawControls() {
  const { classes, class_names: names, image } = model();
  document.title = `${model().name}: images by seed`;
  part("title").textContent = model().name;
  const kind = { 1: "grey", 3: "RGB", 4: "RGBA" }[image.channels] ?? "";
  part("about").textContent = `${image.width}×${image.height} ${kind}${classes ? `, ${classes} classes` : ""}`;
  part("model-field").hidden = all.length < 2;
  part("model").replaceChildren(...all.map((each) => new Option(each.name, each.name)));
  part("model").value = state.model;
  part("class-field").hidden = !classes;
  const listed = Array.from({ length: classes }, (_, label) => new Option(names[label] ?? String(label), label));
  part("class").replaceChildren(new Option("all, in turn", ""), ...listed);
  part("class").value = state.label;
  part("first").value = state.first;
  part("count").value = state.count;
  part("truncation").value = state.truncation ?? NO_TRUNCATION;
  drawBound(state.truncation);
  part("noise-field").hidden = !model().noise;
  part("noise").replaceChildren(...noises().map(([value, text]) => new Option(text, value)));
  part("noise").value = state.noise;
  part("bound").textContent = model().styles ? "Truncation ψ" : "Truncation";
}

function drawBound(value) {
  part("truncation-text").value = value ?? "off";
  part("truncation").ariaValueText = value ?? "off";
}

function drawUpload() {
  const takes = model().takes;
  part("upload").hidden = !takes;
  part("controls").classList.toggle("uploads", Boolean(takes));
  if (!takes) return;
  part("about").textContent = takes.text;
  part("status").textContent = takes.fixed ? "Images of other sizes are resized." : "";
}

async function upload(picture) {
  if (!picture || !model().takes) return;
  const turn = ++drawn;
  part("status").textContent = "Working on your image …";
  const source = await arrived(images.transform(model(), picture));
  if (turn !== drawn || !source) return;
  part("status").textContent = "Done";
  const name = picture.name ?? "image";
  const large = part("large");
  large.removeAttribute("width");
  large.removeAttribute("height");
  large.classList.remove("small");
  large.alt = `${name}, by ${model().name}`;
  large.src = source;
  present(source, large.alt, `${name.replace(/\.[^.]*$/, "")}-${model().name}.png`);
}

function drawGrid() {
  const count = Math.min(state.count, LAST - state.first + 1);
  const tiles = Array.from({ length: count }, (_, index) => {
    const seed = state.first + index;
    const picture = made("img", { loading: "lazy", decoding: "async" });
    show(picture, images.image(model(), seed, options()), named(seed));
    const open = made("button", { type: "button", className: "tile", onclick: () => look(seed) }, picture);
    open.dataset.seed = seed;
    const chosen = state.walk.includes(stopOf(seed));
    const mark = made("button", { type: "button", className: "mark", textContent: chosen ? "✓" : "+", onclick: () => toggle(stopOf(seed)) });
    mark.setAttribute("aria-label", `seed ${seed} in the walk`);
    mark.setAttribute("aria-pressed", chosen);
    mark.dataset.mark = seed;
    const shown = className(labelOf(seed));
    const caption = made("span", { className: "caption", textContent: shown ? `${seed} · ${shown}` : seed });
    return made("li", {}, open, mark, caption);
  });
  part("grid").replaceChildren(...tiles);
  part("status").textContent = `${count} images, seeds ${state.first} to ${state.first + count - 1}`;
}

function drawWalk() {
  part("walk").hidden = !state.walk.length;
  const stops = state.walk.map((each) => {
    const { seed, label } = stop(each);
    const picture = made("img");
    show(picture, images.image(model(), seed, options(label === undefined ? {} : { label })), named(seed, label));
    const remove = made("button", { type: "button", onclick: () => toggle(each) }, picture);
    remove.setAttribute("aria-label", `take ${named(seed, label)} out of the walk`);
    return made("li", {}, remove);
  });
  part("stops").replaceChildren(...stops);
  part("play").disabled = state.walk.length < 2;
  part("play").textContent = state.walk.length < 2 ? "Choose another" : `Walk (${state.walk.length})`;
  part("own-field").hidden = !model().classes || state.label !== "" || inClasses();
  part("own").checked = state.own;
  for (const mark of document.querySelectorAll("[data-mark]")) {
    const chosen = state.walk.includes(stopOf(Number(mark.dataset.mark)));
    mark.textContent = chosen ? "✓" : "+";
    mark.setAttribute("aria-pressed", chosen);
  }
}

const inClasses = () => state.walk.some((each) => stop(each).label !== undefined);
const others = (seed) => Array.from({ length: NEIGHBOURS }, (_, index) => (seed + (index + 1) * 1013904223) % LAST);

async function drawView() {
  if (state.seed === null) return part("view").close();
  const turn = ++drawn;
  const moved = state.towards !== null ? { towards: state.towards, step: state.step } : {};
  const text = state.towards === null ? named(state.seed) : `${named(state.seed)}, ${Math.round(100 * state.step)} % towards seed ${state.towards}`;
  part("caption").textContent = text;
  const source = await arrived(images.image(model(), state.seed, options(moved)));
  if (turn !== drawn || !source) return;
  show(part("large"), source, text);
  download(source, `${model().name}-${state.seed}${state.towards === null ? "" : `-${state.towards}`}.png`);
  for (const id of ["previous", "next", "add", "near"]) part(id).hidden = false;
  part("add").setAttribute("aria-pressed", state.walk.includes(stopOf(state.seed)));
  drawNeighbours();
  if (!part("view").open) part("view").showModal();
}

function drawNeighbours() {
  const shown = state.near !== null && state.seed !== null;
  part("near").setAttribute("aria-pressed", shown);
  part("neighbours").hidden = !shown;
  part("large").classList.toggle("beside", shown);
  if (!shown) return;
  const step = (part("step").value = state.near);
  const tiles = others(state.seed).map((towards, index) => {
    const picture = made("img");
    const text = `neighbour ${index + 1} of seed ${state.seed}`;
    show(picture, images.image(model(), state.seed, options({ towards, step })), text);
    return made("li", {}, made("button", { type: "button", onclick: () => look(state.seed, towards, step) }, picture));
  });
  part("around").replaceChildren(...tiles);
}

function download(source, name) {
  part("download").href = source;
  part("download").download = name;
}

// What is of no single seed: a walk, or what became of a picture.
function present(source, text, name) {
  for (const id of ["previous", "next", "add", "near", "neighbours"]) part(id).hidden = true;
  part("caption").textContent = text;
  download(source, name);
  if (!part("view").open) part("view").showModal();
}

async function play() {
  const turn = ++drawn;
  const stops = state.walk.map(stop);
  const own = inClasses() || (state.own && state.label === "" && model().classes);
  const labels = own ? stops.map(({ seed, label }) => label ?? labelOf(seed)) : state.label === "" ? null : [state.label];
  const frames = Math.min(40 * state.walk.length, model().limits.images);
  part("status").textContent = `Generating ${frames} frames …`;
  const source = await arrived(images.walk(model(), stops.map(({ seed }) => seed), { labels, ...bounds(), noise: noise(false), frames }));
  if (turn !== drawn || !source) return;
  part("status").textContent = `A walk of ${frames} frames`;
  const text = `a walk through ${stops.map(({ seed }, index) => (own ? named(seed, labels[index]) : `seed ${seed}`)).join("; ")}`;
  show(part("large"), source, text);
  present(source, text, `${model().name}-walk.${images.WALK}`);
}

function look(seed, towards = null, step = null) {
  Object.assign(state, { seed, towards, step });
  write();
  drawView();
}

function toggle(chosen) {
  const without = state.walk.filter((each) => each !== chosen);
  state.walk = without.length < state.walk.length ? without : [...state.walk, chosen].slice(-MOST_STOPS);
  part("add").setAttribute("aria-pressed", state.seed !== null && state.walk.includes(stopOf(state.seed)));
  write();
  drawWalk();
}

function change(values) {
  Object.assign(state, values);
  write();
  draw();
}

function draw() {
  drawControls();
  drawUpload();
  if (model().takes) {
    part("grid").replaceChildren();
    part("walk").hidden = true;
    return;
  }
  drawGrid();
  drawWalk();
  drawView();
}

const go = (first) => change({ first: clamp(first, 0, LAST) });
part("controls").onsubmit = (event) => event.preventDefault();
part("before").onclick = () => go(state.first - state.count);
part("after").onclick = () => go(state.first + state.count);
part("random").onclick = () => go(Math.floor(Math.random() * 1e9));
part("first").onchange = () => go(whole(part("first").value, 0, 0, LAST));
part("count").onchange = () => change({ count: Number(part("count").value) });
part("model").onchange = () => change({ model: part("model").value, label: "", noise: "", walk: [], seed: null, towards: null });
part("class").onchange = () => change({ label: part("class").value === "" ? "" : Number(part("class").value) });
const bound = () => (Number(part("truncation").value) < NO_TRUNCATION ? Number(part("truncation").value) : null);
part("truncation").oninput = () => drawBound(bound());
part("truncation").onchange = () => change({ truncation: bound() });
part("noise").onchange = () => change({ noise: part("noise").value });
part("own").onchange = () => change({ own: part("own").checked });
part("play").onclick = play;
part("clear").onclick = () => change({ walk: [] });
part("previous").onclick = () => look(Math.max(state.seed - 1, 0));
part("next").onclick = () => look(Math.min(state.seed + 1, LAST));
part("add").onclick = () => toggle(stopOf(state.seed));
const near = (distance) => {
  state.near = distance;
  write();
  drawNeighbours();
};
part("step").value = 0.2;
part("near").onclick = () => near(state.near === null ? Number(part("step").value) : null);
part("step").onchange = () => near(Number(part("step").value));
part("view").onclose = () => {
  const seed = state.seed;
  Object.assign(state, { seed: null, towards: null, step: null });
  drawn++;
  write();
  document.querySelector(`[data-seed="${seed}"]`)?.focus();
};
part("view").onclick = (event) => {
  if (event.target === part("view")) part("view").close();
};
part("view").onkeydown = (event) => {
  if (event.target.type === "range" || part("next").hidden) return;
  if (event.key === "ArrowLeft") part("previous").click();
  if (event.key === "ArrowRight") part("next").click();
};
part("grid").onkeydown = (event) => {
  const tiles = [...document.querySelectorAll(".tile")];
  const index = tiles.indexOf(document.activeElement);
  if (index < 0) return;
  const columns = getComputedStyle(part("grid")).gridTemplateColumns.split(" ").length;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  if (event.key in moves) {
    event.preventDefault();
    tiles[index + moves[event.key]]?.focus();
  }
  if (event.key === "w") toggle(stopOf(Number(tiles[index].dataset.seed)));
};
part("file").onchange = () => upload(part("file").files[0]);
for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  addEventListener(kind, (event) => {
    if (!all.length || !model().takes) return;
    event.preventDefault();
    part("upload").classList.toggle("over", over);
    if (kind === "drop") upload(event.dataTransfer.files[0]);
  });
}
addEventListener("paste", (event) => upload(event.clipboardData.files[0]));
addEventListener("hashchange", () => {
  read();
  draw();
});

try {
  all = await images.models();
  read();
  draw();
} catch (error) {
  part("status").textContent = `There are no images: ${error.message}`;
}
