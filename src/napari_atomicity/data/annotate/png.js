// @ts-check
// Grey PNG files of 8 or 16 bits, decoded here: a canvas would give 8 bits only, and some browsers
// change what a page reads back from a canvas.

/** @typedef {{width: number, height: number, depth: number, pixels: Uint16Array}} Picture */

/** @param {string} base64 @returns {Promise<Picture>} */
export async function decodePng(base64) {
  const bytes = Uint8Array.from(atob(base64.trim()), (letter) => letter.charCodeAt(0));
  const data = new DataView(bytes.buffer);
  let width = 0, height = 0, depth = 8;
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const packed = [];
  for (let at = 8; at + 8 <= bytes.length; ) {
    const length = data.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "IHDR") {
      width = data.getUint32(at + 8);
      height = data.getUint32(at + 12);
      depth = bytes[at + 16];
      if (bytes[at + 17] !== 0 || bytes[at + 20] !== 0) throw new Error("not a plain grey PNG");
    } else if (kind === "IDAT") packed.push(bytes.subarray(at + 8, at + 8 + length));
    at += length + 12;
  }
  const stream = new Blob(packed).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  return { width, height, depth, pixels: unfilter(raw, width, height, depth / 8) };
}

/** Undo the filters of the lines. @param {Uint8Array} raw @param {number} width
 * @param {number} height @param {number} size bytes of a pixel @returns {Uint16Array} */
function unfilter(raw, width, height, size) {
  const stride = width * size;
  const lines = new Uint8Array(stride * height);
  for (let row = 0; row < height; row++) {
    const filter = raw[row * (stride + 1)];
    const from = row * (stride + 1) + 1, to = row * stride;
    for (let i = 0; i < stride; i++) {
      const left = i >= size ? lines[to + i - size] : 0;
      const up = row ? lines[to + i - stride] : 0;
      let add = 0;
      if (filter === 1) add = left;
      else if (filter === 2) add = up;
      else if (filter === 3) add = (left + up) >> 1;
      else if (filter === 4) add = paeth(left, up, row && i >= size ? lines[to + i - stride - size] : 0);
      lines[to + i] = raw[from + i] + add;
    }
  }
  const pixels = new Uint16Array(width * height);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = size === 1 ? lines[i] : (lines[2 * i] << 8) | lines[2 * i + 1];
  }
  return pixels;
}

/** @param {number} left @param {number} up @param {number} corner */
function paeth(left, up, corner) {
  const a = Math.abs(up - corner), b = Math.abs(left - corner), c = Math.abs(left + up - 2 * corner);
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}
