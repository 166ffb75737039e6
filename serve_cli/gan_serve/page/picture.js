// What a generator that takes images makes of a picture (a Blob), whole or in tiles: as gan_serve/runtime/transform.py.

const TILE = 256;
const MOST = 2 ** 26; // pixels of a result

// The result as {pixels, width, height, channels}. `takes` is what the model takes, `made` the channels that it makes,
// and `run` makes pixels (height, width, channels) from an input.
export async function transformed(picture, takes, made, run) {
  const bitmap = await decoded(picture);
  const { width, height } = takes.fixed ? takes : bitmap;
  const [outWidth, outHeight] = [width * takes.scale, height * takes.scale];
  if (outWidth * outHeight > MOST) throw new Error(`the result would have ${outWidth}×${outHeight} pixels, the most is ${MOST}`);
  const rgba = drawn(bitmap, width, height);
  const given = channelsOf(rgba, width * height, takes.channels);
  const next = (side) => Math.ceil(Math.max(side, takes.minimum) / takes.multiple_of) * takes.multiple_of;
  const [columns, rows] = takes.fixed ? [width, height] : [next(width), next(height)];
  const result = new Uint8Array(outWidth * outHeight * made);
  const tile = takes.halo === null || takes.fixed ? Math.max(columns, rows) : next(TILE);
  const halo = Math.ceil((takes.halo ?? 0) / takes.multiple_of) * takes.multiple_of;
  const window = (at, side) => {
    const stop = Math.min(side, at + tile + halo);
    return [Math.max(0, Math.min(at - halo, stop - next(1))), stop];
  };
  for (let top = 0; top < height; top += tile) {
    for (let left = 0; left < width; left += tile) {
      const [y0, y1] = takes.fixed ? [0, rows] : window(top, rows);
      const [x0, x1] = takes.fixed ? [0, columns] : window(left, columns);
      const data = mirrored(given, width, height, takes.channels, x0, x1, y0, y1);
      const pixels = await run({ type: "uint8", data, dims: [1, y1 - y0, x1 - x0, takes.channels] });
      const row = (x1 - x0) * takes.scale * made;
      const kept = Math.min(tile, width - left) * takes.scale * made;
      for (let y = 0; y < Math.min(tile, height - top) * takes.scale; y++) {
        const from = ((top - y0) * takes.scale + y) * row + (left - x0) * takes.scale * made;
        result.set(pixels.subarray(from, from + kept), ((top * takes.scale + y) * outWidth + left * takes.scale) * made);
      }
    }
  }
  const seen = takes.channels === 4 || rgba.every((value, i) => i % 4 !== 3 || value === 255);
  const size = { width: outWidth, height: outHeight };
  if (seen) return { pixels: result, channels: made, ...size };
  return { pixels: withOpacity(result, made, drawn(bitmap, outWidth, outHeight)), channels: 4, ...size };
}

async function decoded(picture) {
  try {
    return await createImageBitmap(picture, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error("this browser cannot read the picture");
  }
}

function drawn(bitmap, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

// RGBA as the channels that a model takes; grey by the weights of ITU-R 601, rounded as Pillow rounds.
function channelsOf(rgba, n, channels) {
  if (channels === 4) return new Uint8Array(rgba);
  const given = new Uint8Array(n * channels);
  for (let i = 0; i < n; i++) {
    const [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    if (channels === 1) given[i] = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
    else given.set([r, g, b], 3 * i);
  }
  return given;
}

// Columns x0 to x1 and rows y0 to y1; beyond the right and the lower edge the picture is mirrored.
function mirrored(given, width, height, channels, x0, x1, y0, y1) {
  const inside = (at, side) => (at % (2 * side) < side ? at % side : side - 1 - (at % side));
  const data = new Uint8Array((x1 - x0) * (y1 - y0) * channels);
  let to = 0;
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      const from = (inside(y, height) * width + inside(x, width)) * channels;
      for (let channel = 0; channel < channels; channel++) data[to++] = given[from + channel];
    }
  }
  return data;
}

function withOpacity(pixels, channels, rgba) {
  const all = new Uint8Array(rgba.length);
  for (let i = 0; i < rgba.length; i += 4) {
    for (let channel = 0; channel < 3; channel++) all[i + channel] = pixels[(i / 4) * channels + (channels > 1 ? channel : 0)];
    all[i + 3] = rgba[i + 3];
  }
  return all;
}
