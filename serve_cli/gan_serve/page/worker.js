// The model, in a worker, so that the page stays quick while it runs. A classic script: modules do not load from disk.
/* global ort */
"use strict";

let session;

async function open({ script, mjs, wasm, binary, model, threads }) {
  if (script) importScripts(script); // else it stands before this file, in one script
  Object.assign(ort.env.wasm, { numThreads: threads, wasmPaths: { mjs, wasm }, wasmBinary: binary });
  session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
}

async function run(feeds, output) {
  const tensors = Object.entries(feeds).map(([name, { type, data, dims }]) => [name, new ort.Tensor(type, data, dims)]);
  return (await session.run(Object.fromEntries(tensors), [output]))[output].data;
}

let last = Promise.resolve(); // one at a time

onmessage = ({ data: { number, start, feeds, output } }) => {
  last = last.then(async () => {
    try {
      const answer = start ? await open(start) : await run(feeds, output);
      postMessage({ number, answer });
    } catch (error) {
      postMessage({ number, problem: String(error?.message ?? error) });
    }
  });
};
