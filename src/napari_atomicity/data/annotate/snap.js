// @ts-check
// From a click to the spot that was meant: the nearest local maximum of the smoothed image within
// reach, as in napari (`snap_to_spot`), to a fraction of a pixel by a parabola on each axis.

/** @typedef {import("./png.js").Picture} Picture */
/** @typedef {{y: number, x: number}} Point */

const REACH_NM = 0.1, SMOOTH_NM = 0.05;

/** @param {Picture} picture @param {Point} click @param {number} pixelNm @returns {Point | null} */
export function snapToSpot(picture, click, pixelNm) {
  const reach = REACH_NM / pixelNm;
  const around = Math.ceil(reach) + 2;
  const top = Math.max(0, Math.round(click.y) - around);
  const left = Math.max(0, Math.round(click.x) - around);
  const height = Math.min(picture.height, Math.round(click.y) + around + 1) - top;
  const width = Math.min(picture.width, Math.round(click.x) + around + 1) - left;
  if (height < 3 || width < 3) return null;
  const smooth = smoothed(picture, top, left, height, width, SMOOTH_NM / pixelNm);
  const lowest = Math.min(...smooth);
  let nearest = null, least = reach + 0.5;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const off = Math.hypot(y + top - click.y, x + left - click.x);
      if (off <= least && isMaximum(smooth, y, x, height, width) && smooth[y * width + x] > lowest) {
        least = off;
        nearest = { y, x };
      }
    }
  }
  if (!nearest) return null;
  const { y, x } = nearest, at = y * width + x;
  const dy = y > 0 && y < height - 1 ? vertex(smooth[at - width], smooth[at], smooth[at + width]) : 0;
  const dx = x > 0 && x < width - 1 ? vertex(smooth[at - 1], smooth[at], smooth[at + 1]) : 0;
  return { y: y + top + dy, x: x + left + dx };
}

/** @param {Float64Array} values @param {number} y @param {number} x @param {number} height @param {number} width */
function isMaximum(values, y, x, height, width) {
  for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
    for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
      if (values[v * width + u] > values[y * width + x]) return false;
    }
  }
  return true;
}

/** The vertex of a parabola through three points. @param {number} a @param {number} b @param {number} c */
function vertex(a, b, c) {
  const bend = a - 2 * b + c;
  return bend < 0 ? Math.max(-0.5, Math.min(0.5, (a - c) / (2 * bend))) : 0;
}

/** A Gaussian filter of a window, with the pixels around it. @param {Picture} picture
 * @param {number} top @param {number} left @param {number} height @param {number} width
 * @param {number} sigma */
function smoothed(picture, top, left, height, width, sigma) {
  const reach = Math.ceil(4 * sigma);
  const kernel = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * sigma * sigma)));
  const sum = kernel.reduce((a, b) => a + b, 0);
  /** @param {number} i @param {number} n */
  const inside = (i, n) => Math.max(0, Math.min(n - 1, i));
  const rows = new Float64Array((height + 2 * reach) * width);
  for (let y = 0; y < height + 2 * reach; y++) {
    const line = inside(y + top - reach, picture.height) * picture.width;
    for (let x = 0; x < width; x++) {
      let total = 0;
      for (let k = 0; k < kernel.length; k++) {
        total += kernel[k] * picture.pixels[line + inside(x + left + k - reach, picture.width)];
      }
      rows[y * width + x] = total / sum;
    }
  }
  const out = new Float64Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let total = 0;
      for (let k = 0; k < kernel.length; k++) total += kernel[k] * rows[(y + k) * width + x];
      out[y * width + x] = total / sum;
    }
  }
  return out;
}
