// Images of an exported generator in Node: node generate.mjs g.onnx SEED...
// npm install onnxruntime-web; or onnxruntime-node, which is faster and has the same functions.
import { readFile, writeFile } from "node:fs/promises";
import * as ort from "onnxruntime-web";
import { latent } from "../serve_cli/gan_serve/page/latents.js"; // this file and png.js have no imports: copy them
import { png } from "../serve_cli/gan_serve/page/png.js";

const [Z_DIM, LAW, CLASSES] = [64, "normal", 10]; // as `gan-gen g.onnx --info` says
const [file, ...seeds] = process.argv.slice(2);
const n = seeds.length;
const session = await ort.InferenceSession.create(await readFile(file));

const z = new Float32Array(n * Z_DIM);
seeds.forEach((seed, index) => z.set(latent(Number(seed), Z_DIM, LAW), index * Z_DIM));
const feeds = { z: new ort.Tensor("float32", z, [n, Z_DIM]) };
if (CLASSES) {
  const labels = BigInt64Array.from(seeds, (seed) => BigInt(seed) % BigInt(CLASSES));
  feeds.label = new ort.Tensor("int64", labels, [n]);
}
const { pixels } = await session.run(feeds, ["pixels"]);

const [, height, width, channels] = pixels.dims;
const size = height * width * channels;
for (const [index, seed] of seeds.entries()) {
  const image = pixels.data.subarray(index * size, (index + 1) * size);
  await writeFile(`${seed}.png`, await png([image], width, height, channels));
}
