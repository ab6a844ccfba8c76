// @ts-check
// The image with its marks: zoom, pan, contrast, and what mouse, pen and fingers do.
// Positions count as in the image: the centre of the first pixel is 0, 0.

/** @typedef {import("./png.js").Picture} Picture */
/** @typedef {import("./snap.js").Point} Point */
/** @typedef {{key: string, y: number, x: number, kind: "sure" | "uncertain" | "hit" | "missed" | "false"}} Drawn */
/** @typedef {{add: (at: Point, exactly: boolean) => void, move: (key: string, to: Point, exactly: boolean) => void, select: (key: string) => void, contrast: (low: number, high: number) => void}} Actions */

const COLOURS = { sure: "#f0e442", uncertain: "#ffb000", hit: "#40e0a0", missed: "#ff9ecf", false: "#ff7f50" };
const SCALES_NM = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

export class View {
  /** @param {HTMLCanvasElement} canvas @param {Actions} actions */
  constructor(canvas, actions) {
    this.canvas = canvas;
    this.actions = actions;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.grey = document.createElement("canvas");
    /** @type {Picture | null} */
    this.picture = null;
    this.pixelNm = 1;
    this.low = 0;
    this.high = 255;
    this.scale = 1;
    this.centre = { y: 0, x: 0 };
    this.cursor = { y: 0, x: 0 };
    this.showCursor = false;
    this.fitted = false;
    this.canMark = true;
    /** @type {{y: number, x: number, radius: number} | null} */
    this.ring = null;
    /** @type {Drawn[]} */
    this.marks = [];
    this.selected = "";
    /** @type {{key: string, to: Point} | null} */
    this.dragged = null;
    /** @type {Map<number, {x: number, y: number}>} */
    this.pointers = new Map();
    /** @type {{x: number, y: number, hit: string, moved: boolean, button: number, touch: boolean, fingers: number} | null} */
    this.press = null;
    this.waiting = false;
    canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    canvas.addEventListener("pointerup", (event) => this.onUp(event));
    canvas.addEventListener("pointercancel", (event) => this.onUp(event));
    canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    new ResizeObserver(() => (this.fitted ? this.fit() : this.draw())).observe(canvas);
  }

  /** @param {Picture} picture @param {number} pixelNm @param {number} low @param {number} high */
  show(picture, pixelNm, low, high) {
    this.picture = picture;
    this.pixelNm = pixelNm;
    this.pointers.clear();
    this.press = this.dragged = this.ring = null;
    this.selected = "";
    this.setContrast(low, high);
    this.fit();
  }

  /** Grey values of black and white. @param {number} low @param {number} high */
  setContrast(low, high) {
    const { picture, grey } = this;
    if (!picture) return;
    this.low = low;
    this.high = Math.max(high, low + 1);
    grey.width = picture.width;
    grey.height = picture.height;
    const image = new ImageData(picture.width, picture.height);
    const words = new Uint32Array(image.data.buffer);
    const table = new Uint32Array(1 << picture.depth);
    for (let value = 0; value < table.length; value++) {
      const level = Math.max(0, Math.min(255, Math.round((255 * (value - this.low)) / (this.high - this.low))));
      table[value] = 0xff000000 | (level << 16) | (level << 8) | level;
    }
    for (let i = 0; i < words.length; i++) words[i] = table[picture.pixels[i]];
    /** @type {CanvasRenderingContext2D} */ (grey.getContext("2d")).putImageData(image, 0, 0);
    this.draw();
  }

  get width() { return this.canvas.clientWidth || 1; }
  get height() { return this.canvas.clientHeight || 1; }

  fit() {
    const { picture } = this;
    if (!picture) return;
    this.scale = Math.min(this.width / picture.width, this.height / picture.height);
    this.centre = { y: (picture.height - 1) / 2, x: (picture.width - 1) / 2 };
    this.cursor = { ...this.centre };
    this.fitted = true;
    this.draw();
  }

  /** @param {Point} centre @param {number} radius in pixels of the image */
  lookAt(centre, radius) {
    this.fitted = false;
    this.ring = { ...centre, radius };
    this.centre = { y: centre.y, x: centre.x };
    this.cursor = { ...this.centre };
    this.scale = Math.min(this.width, this.height) / (radius * 6);
    this.draw();
  }

  /** @param {number} factor @param {Point} [about] position in the image that stays where it is */
  zoom(factor, about = this.showCursor ? this.cursor : this.centre) {
    const before = this.scale;
    const { picture } = this;
    const least = picture ? Math.min(this.width / picture.width, this.height / picture.height) / 2 : 0.01;
    this.scale = Math.max(least, Math.min(64, before * factor));
    const share = before / this.scale;
    this.centre = { y: about.y + (this.centre.y - about.y) * share, x: about.x + (this.centre.x - about.x) * share };
    this.limit();
  }

  /** @param {number} dx @param {number} dy in pixels of the screen */
  pan(dx, dy) {
    this.centre = { y: this.centre.y - dy / this.scale, x: this.centre.x - dx / this.scale };
    this.limit();
  }

  limit() {
    this.fitted = false;
    if (this.picture) {
      this.centre.y = Math.max(0, Math.min(this.picture.height - 1, this.centre.y));
      this.centre.x = Math.max(0, Math.min(this.picture.width - 1, this.centre.x));
    }
    this.draw();
  }

  /** Move the keyboard's cross. @param {number} dx @param {number} dy in pixels of the screen */
  moveCursor(dx, dy) {
    if (!this.picture) return;
    this.showCursor = true;
    this.cursor.y = Math.max(0, Math.min(this.picture.height - 1, this.cursor.y + dy / this.scale));
    this.cursor.x = Math.max(0, Math.min(this.picture.width - 1, this.cursor.x + dx / this.scale));
    const at = this.toScreen(this.cursor);
    const edge = 40;
    this.pan(Math.max(0, edge - at.x) - Math.max(0, at.x - this.width + edge), Math.max(0, edge - at.y) - Math.max(0, at.y - this.height + edge));
  }

  /** @param {Point} at */
  toScreen(at) {
    return { x: (at.x - this.centre.x) * this.scale + this.width / 2, y: (at.y - this.centre.y) * this.scale + this.height / 2 };
  }

  /** @param {{x: number, y: number}} at @returns {Point} */
  toImage(at) {
    return { x: (at.x - this.width / 2) / this.scale + this.centre.x, y: (at.y - this.height / 2) / this.scale + this.centre.y };
  }

  /** The nearest position in the image. @param {Point} at @returns {Point} */
  limited(at) {
    const { height, width } = this.picture ?? { height: 1, width: 1 };
    return { y: Math.max(-0.5, Math.min(height - 0.5, at.y)), x: Math.max(-0.5, Math.min(width - 0.5, at.x)) };
  }

  /** @param {Point} at */
  isInside(at) {
    const { picture } = this;
    return picture !== null && at.y >= -0.5 && at.x >= -0.5 && at.y <= picture.height - 0.5 && at.x <= picture.width - 0.5;
  }

  /** The nearest mark within some pixels of the screen. @param {Point} at @param {number} reach */
  markAt(at, reach) {
    let key = "", least = reach / this.scale;
    for (const mark of this.marks) {
      const off = Math.hypot(mark.y - at.y, mark.x - at.x);
      if (off <= least && mark.key) [key, least] = [mark.key, off];
    }
    return key;
  }

  /** @param {PointerEvent | WheelEvent} event */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /** @param {PointerEvent} event */
  onDown(event) {
    const at = this.place(event);
    const touch = event.pointerType === "touch";
    this.showCursor = false;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size > 1) {
      if (this.press) this.press.fingers = this.pointers.size;
      this.dragged = null;
      return;
    }
    const hit = this.canMark && event.button === 0 ? this.markAt(this.toImage(at), touch ? 20 : 10) : "";
    this.press = { ...at, hit, moved: false, button: event.button, touch, fingers: 1 };
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    const { press } = this;
    if (!before || !press) return;
    const at = this.place(event);
    if (press.fingers > 1) {
      this.pinch(event.pointerId, at);
      return;
    }
    this.pointers.set(event.pointerId, at);
    if (!press.moved && Math.hypot(at.x - press.x, at.y - press.y) < (press.touch ? 9 : 4)) return;
    const from = press.moved ? before : press;
    press.moved = true;
    const dx = at.x - from.x, dy = at.y - from.y;
    if (press.button === 2) {
      const step = (this.picture ? 2 ** this.picture.depth : 256) / 400;
      this.actions.contrast(this.low + (dy - dx) * step, this.high + (dy + dx) * step);
    } else if (press.hit) {
      this.dragged = { key: press.hit, to: this.toImage(at) };
      this.draw();
    } else this.pan(dx, dy);
  }

  /** @param {number} pointer @param {{x: number, y: number}} at */
  pinch(pointer, at) {
    const other = [...this.pointers].find(([id]) => id !== pointer);
    const before = this.pointers.get(pointer);
    this.pointers.set(pointer, at);
    if (!other || !before) return;
    const { x, y } = other[1];
    const middle = { x: (at.x + x) / 2, y: (at.y + y) / 2 };
    this.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
    const ratio = Math.hypot(at.x - x, at.y - y) / Math.max(1, Math.hypot(before.x - x, before.y - y));
    this.zoom(ratio, this.toImage(middle));
  }

  /** @param {PointerEvent} event */
  onUp(event) {
    const { press, dragged } = this;
    this.pointers.delete(event.pointerId);
    if (this.pointers.size || !press) return;
    this.press = this.dragged = null;
    this.draw();
    if (press.fingers > 1 || press.button !== 0 || event.type === "pointercancel") return;
    const at = this.toImage(this.place(event));
    if (dragged) {
      if (this.isInside(dragged.to)) this.actions.move(dragged.key, dragged.to, event.altKey);
    } else if (!press.moved && press.hit) this.actions.select(press.hit);
    else if (!press.moved && this.canMark && this.isInside(at)) this.actions.add(at, event.altKey);
  }

  /** @param {WheelEvent} event */
  onWheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    this.zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) / 300), this.toImage(this.place(event)));
  }

  /** Draw with the next frame. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const { canvas, context } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(this.width * ratio);
    canvas.height = Math.round(this.height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.width, this.height);
    if (!this.picture) return;
    const corner = this.toScreen({ y: -0.5, x: -0.5 });
    context.imageSmoothingEnabled = this.scale < 3;
    context.drawImage(this.grey, corner.x, corner.y, this.picture.width * this.scale, this.picture.height * this.scale);
    if (this.ring) this.circle(this.ring, this.ring.radius * this.scale, "#ffffff", [6, 5]);
    for (const mark of this.marks) this.paintMark(mark);
    if (this.showCursor) this.cross(this.toScreen(this.cursor), 14, 4, "#ffffff");
    this.paintScaleBar();
  }

  /** @param {Drawn} mark */
  paintMark(mark) {
    const at = this.dragged && this.dragged.key === mark.key ? this.dragged.to : mark;
    const radius = Math.max(6, (0.12 / this.pixelNm) * this.scale);
    const colour = COLOURS[mark.kind];
    const screen = this.toScreen(at);
    if (mark.kind === "false") this.cross(screen, radius, 0, colour);
    else if (mark.kind === "missed") this.stroke(colour, [], () => this.context.rect(screen.x - radius, screen.y - radius, 2 * radius, 2 * radius));
    else this.circle(at, radius, colour, mark.kind === "uncertain" ? [5, 4] : []);
    if (mark.kind === "uncertain") this.text("?", screen.x + radius + 9, screen.y + 5, colour);
    if (mark.key && mark.key === this.selected) this.cross(screen, radius + 7, radius + 1, "#ffffff");
  }

  /** @param {Point} at @param {number} radius @param {string} colour @param {number[]} dash */
  circle(at, radius, colour, dash) {
    const { x, y } = this.toScreen(at);
    this.stroke(colour, dash, () => this.context.arc(x, y, radius, 0, 2 * Math.PI));
  }

  /** @param {{x: number, y: number}} at @param {number} outer @param {number} inner @param {string} colour */
  cross({ x, y }, outer, inner, colour) {
    this.stroke(colour, [], () => {
      for (const [u, v] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        this.context.moveTo(x + u * inner, y + v * inner);
        this.context.lineTo(x + u * outer, y + v * outer);
      }
    });
  }

  /** A line with a dark edge, which is seen on every grey. @param {string} colour
   * @param {number[]} dash @param {() => void} path */
  stroke(colour, dash, path) {
    const { context } = this;
    context.beginPath();
    path();
    context.setLineDash([]);
    context.lineWidth = 4;
    context.strokeStyle = "rgba(0, 0, 0, 0.75)";
    context.stroke();
    context.setLineDash(dash);
    context.lineWidth = 2;
    context.strokeStyle = colour;
    context.stroke();
    context.setLineDash([]);
  }

  /** @param {string} text @param {number} x @param {number} y @param {string} colour */
  text(text, x, y, colour) {
    const { context } = this;
    context.font = "600 15px system-ui, sans-serif";
    context.lineWidth = 4;
    context.strokeStyle = "rgba(0, 0, 0, 0.75)";
    context.strokeText(text, x, y);
    context.fillStyle = colour;
    context.fillText(text, x, y);
  }

  paintScaleBar() {
    const limit = Math.min(180, this.width / 3);
    const length = SCALES_NM.filter((nm) => (nm / this.pixelNm) * this.scale <= limit).pop() ?? SCALES_NM[0];
    const width = (length / this.pixelNm) * this.scale;
    const y = this.height - 14;
    this.stroke("#ffffff", [], () => {
      this.context.moveTo(14, y);
      this.context.lineTo(14 + width, y);
    });
    this.text(`${length} nm`, 14, y - 9, "#ffffff");
  }
}
