// PNG and animated PNG from pixels of 1, 3 or 4 channels, without loss. (A canvas would multiply colours by alpha.)

const COLOURS = { 1: 0, 3: 2, 4: 6 }; // PNG's colour type by the number of channels
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function chunk(name, ...parts) {
  const data = joined([Uint8Array.from(name, (letter) => letter.charCodeAt(0)), ...parts]);
  let crc = 0xffffffff;
  for (const byte of data) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return joined([words(data.length - 4), data, words(~crc)]);
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}

function words(...numbers) {
  const bytes = new DataView(new ArrayBuffer(4 * numbers.length));
  numbers.forEach((number, i) => bytes.setUint32(4 * i, number));
  return new Uint8Array(bytes.buffer);
}

// The rows of one image, each with its filter (none, but the difference to the row above where there is one), deflated.
async function packed(pixels, width, height, channels) {
  const row = width * channels;
  const rows = new Uint8Array(height * (row + 1));
  for (let y = 0; y < height; y++) {
    const at = y * (row + 1);
    rows[at] = y ? 2 : 0;
    for (let x = 0; x < row; x++) rows[at + 1 + x] = pixels[y * row + x] - (y ? pixels[(y - 1) * row + x] : 0);
  }
  const stream = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The bytes of one PNG of `frames`, each the pixels of an image (height, width, channels). Several make an animation
// that starts again at its end, of `rate` frames a second.
export async function png(frames, width, height, channels, rate = 25) {
  const header = joined([words(width, height), Uint8Array.of(8, COLOURS[channels], 0, 0, 0)]);
  const chunks = [Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), chunk("IHDR", header)];
  if (frames.length > 1) chunks.push(chunk("acTL", words(frames.length, 0)));
  let sequence = 0;
  for (const [index, pixels] of frames.entries()) {
    if (frames.length > 1) {
      chunks.push(chunk("fcTL", words(sequence++, width, height, 0, 0), Uint8Array.of(0, 1, 0, rate, 0, 0)));
    }
    const data = await packed(pixels, width, height, channels);
    chunks.push(index ? chunk("fdAT", words(sequence++), data) : chunk("IDAT", data));
  }
  chunks.push(chunk("IEND"));
  return joined(chunks);
}
