// @ts-check
// The page: start, examples, images or clusters one after the other, and the end.
import { Answers } from "./answers.js";
import { decodePng } from "./png.js";
import { snapToSpot } from "./snap.js";
import { View } from "./view.js";

/** @typedef {import("./answers.js").Pack} Pack */
/** @typedef {import("./answers.js").Mark} Mark */
/** @typedef {import("./answers.js").PackImage} PackImage */
/** @typedef {import("./answers.js").Cluster} Cluster */
/** @typedef {import("./snap.js").Point} Point */
/** @typedef {import("./view.js").Drawn} Drawn */
/** What is shown: an item of the pack, or an example (with one of its clusters).
 * @typedef {{item: number, example: number, image: PackImage, picture: string, cluster: Cluster | null, key: string}} Place */
/** @typedef {{keys: string[], shown: string, what: string, once?: boolean, task?: "atoms" | "clusters", run: (event: KeyboardEvent | null) => any}} Command */

const NOT_A_CLUSTER = "not a cluster";
const LETTERS = "123456789abdeghijklmoqrtvwyz";

/** @param {string} id */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** @param {string} id */
function inputOf(id) {
  return /** @type {HTMLInputElement} */ (byId(id));
}

/** @param {number} n @param {string} what */
function counted(n, what) {
  return `${n} ${what}${n === 1 ? "" : "s"}`;
}

class Page {
  /** @param {Pack} pack */
  constructor(pack) {
    this.pack = pack;
    this.manifest = pack.manifest;
    this.isAtoms = this.manifest.task === "atoms";
    this.labels = [...this.manifest.classes, NOT_A_CLUSTER];
    /** @type {Answers} */
    this.answers = new Answers(pack, () => this.refreshSoon());
    this.view = new View(/** @type {HTMLCanvasElement} */ (byId("image")), {
      add: (at, exactly) => this.run(() => this.addMark(at, exactly)),
      move: (key, to, exactly) => this.run(() => this.moveMark(key, to, exactly)),
      select: (key) => this.select(key),
      contrast: (low, high) => this.setContrast(low, high),
    });
    /** @type {Place[]} */
    this.places = [];
    this.number = 0;
    /** What the person sees; null while an image is read. @type {Place | null} */
    this.shown = null;
    this.shownPicture = "";
    /** @type {Promise<any>} */
    this.steps = Promise.resolve();
    this.lastLabelled = -1;
    this.since = Date.now();
    this.waiting = false;
    this.commands = this.listCommands();
  }

  async open() {
    this.answers = await Answers.open(this.pack, () => this.refreshSoon());
    document.title = this.manifest.title;
    for (const title of document.querySelectorAll(".title")) title.textContent = this.manifest.title;
    byId("instructions").textContent = byId("reader-text").textContent = this.manifest.instructions;
    byId("about").textContent = this.about();
    inputOf("name").value = this.answers.name;
    byId("send").hidden = !this.pack.send;
    const { log } = this.answers;
    if (!log?.isKept) this.warn("This browser does not let the page keep your answers. Save them before you close it.");
    else log.onLost = () => this.warn("The browser can't keep your answers any more; its disk may be full. They are still here: save them before you close the page.");
    this.listPlaces();
    this.listKeys();
    this.listClasses();
    this.connect();
    const asked = Number(location.hash.slice(1));
    if (this.answers.name && this.answers.values.has("begun")) await this.go(asked > 0 ? asked - 1 : this.firstOpen());
    else this.showScreen("start");
  }

  about() {
    const { items, examples, images, part, parts } = this.manifest;
    const what = this.isAtoms ? counted(items.length, "image") : `${counted(items.length, "cluster")} in ${counted(images.length, "image")}`;
    const files = parts > 1 ? ` This is file ${part} of ${parts}.` : "";
    const first = examples.length ? " It begins with worked examples, whose answers are known." : "";
    return `${what}.${first}${files} Your answers stay in this browser until you save them; in a private window only until you close it.`;
  }

  /** Do one thing after the other, and only to what was on show when it was asked for. @param {() => any} step */
  run(step) {
    const { shown } = this;
    this.steps = this.steps.then(() => (shown === this.shown ? step() : null)).catch((error) => this.warn(`This did not work: ${error}`));
  }

  /** Examples first, then the items in an order of one's own. */
  listPlaces() {
    const { images, items, examples } = this.manifest;
    /** @type {Place[]} */
    const places = [];
    examples.forEach((image, example) => {
      const about = { item: -1, example, image, picture: `example-${example}` };
      if (this.isAtoms) places.push({ ...about, cluster: null, key: `e${example}` });
      else for (const cluster of image.clusters) places.push({ ...about, cluster, key: `e${example}.${cluster.cluster_id}` });
    });
    for (const item of this.answers.order) {
      const { image, cluster } = items[item];
      const about = { item, example: -1, image: images[image], picture: `image-${image}`, key: String(item) };
      places.push({ ...about, cluster: cluster === null ? null : images[image].clusters[cluster] });
    }
    this.places = places;
  }

  get place() {
    return this.places[this.number];
  }

  /** @param {Place} place */
  isDone(place) {
    return place.item >= 0 ? this.answers.isComplete(place.item) : this.checkedOf(place) !== null;
  }

  firstOpen() {
    const open = this.places.findIndex((place) => !this.isDone(place));
    return open < 0 ? this.places.length : open;
  }

  // ---- screens
  /** @param {"start" | "work" | "finish"} name */
  showScreen(name) {
    for (const id of ["start", "work", "finish"]) byId(id).hidden = id !== name;
    if (name === "finish") {
      const { nComplete, order } = this.answers;
      const left = order.length - nComplete;
      byId("summary").textContent = `${nComplete} of ${order.length} ${this.isAtoms ? "images are seen completely" : "clusters have a label"}.`
        + (left ? ` ${left} are left; you can send your answers now and go on later.` : " Save your answers and send the file back.");
    }
    const first = { start: "name", work: "image", finish: "back" }[name];
    byId(first).focus({ preventScroll: true });
  }

  /** @param {number} number */
  async go(number) {
    await this.noteTime();
    this.shown = null;
    this.lastLabelled = -1;
    this.number = Math.max(0, Math.min(this.places.length, number));
    history.replaceState(null, "", `#${this.number + 1}`);
    if (this.number === this.places.length) {
      this.showScreen("finish");
      return;
    }
    this.showScreen("work");
    const { place, view } = this;
    if (this.shownPicture !== place.picture) {
      this.say("Reading the image …");
      const picture = await decodePng(byId(place.picture).textContent ?? "");
      if (place !== this.place) return;
      const top = 2 ** picture.depth - 1;
      for (const id of ["black", "white"]) inputOf(id).max = String(top);
      view.show(picture, place.image.pixel_size_nm, place.image.low, place.image.high);
      this.shownPicture = place.picture;
    }
    view.selected = "";
    view.ring = null;
    if (place.cluster) view.lookAt({ y: place.cluster.y_px, x: place.cluster.x_px }, place.cluster.diameter_px * 0.8);
    else if (this.isAtoms) view.fit();
    this.shown = place;
    this.say("");
    this.refresh();
  }

  /** Add the time since the last call to the item that is shown. */
  async noteTime() {
    const place = this.places[this.number];
    const seconds = Math.min(600, (Date.now() - this.since) / 1000);
    this.since = Date.now();
    if (!place || place.item < 0 || byId("work").hidden || seconds < 0.5) return;
    const key = `seconds/${place.item}`;
    await this.answers.note(key, Math.round(10 * ((this.answers.values.get(key) ?? 0) + seconds)) / 10);
  }

  refreshSoon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.refresh();
    });
  }

  refresh() {
    const { answers, view } = this;
    if (byId("start").hidden && !answers.values.has("begun")) {  // as another person, in another tab
      this.listPlaces();
      inputOf("name").value = answers.name;
      this.showScreen("start");
    }
    const { place } = this;
    if (!place || byId("work").hidden) return;
    const isExample = place.item < 0, done = this.isDone(place);
    const progress = /** @type {HTMLProgressElement} */ (byId("progress"));
    progress.max = Math.max(1, answers.order.length);
    progress.value = answers.nComplete;
    const n = answers.order.length, at = this.number - (this.places.length - n);
    byId("where").textContent = isExample ? `Example ${place.example + 1} of ${this.manifest.examples.length}`
      : `${place.image.name} · ${at + 1} of ${n} · ${answers.nComplete} completed`;
    byId("task").textContent = this.taskText(isExample);
    view.canMark = this.isAtoms && !(isExample && done);
    view.marks = this.drawn(place);
    if (!view.marks.some((mark) => mark.key === view.selected)) view.selected = "";
    byId("image").setAttribute("aria-label", `${isExample ? "Example image" : place.image.name}, ${view.marks.length} marks`);
    this.refreshTools(isExample, done);
    view.draw();
  }

  /** @param {boolean} isExample @param {boolean} done */
  refreshTools(isExample, done) {
    const { answers, view, place } = this;
    /** @param {string} id @param {boolean} on */
    const enable = (id, on) => {
      /** @type {HTMLButtonElement} */ (document.querySelector(`[data-do="${id}"]`)).disabled = !on;
    };
    const mark = answers.values.get(view.selected), label = answers.label(place.item), doubtful = answers.values.get(this.doubtKey);
    enable("previous", this.number > 0);
    enable("undo", answers.done.length > 0);
    enable("redo", answers.undone.length > 0);
    enable("remove", this.isAtoms ? Boolean(mark) : Boolean(label));
    enable("unsure", Boolean(doubtful));
    document.querySelector('[data-do="unsure"]')?.setAttribute("aria-pressed", String(doubtful?.uncertain === true));
    byId("check").hidden = !(isExample && this.isAtoms);
    enable("check", !done);
    byId("complete").hidden = isExample || !this.isAtoms;
    byId("complete").setAttribute("aria-pressed", String(done));
    byId("classes").hidden = this.isAtoms;
    const given = isExample ? this.checkedOf(place)?.label : label?.label;
    for (const button of byId("classes").children) button.setAttribute("aria-pressed", String(button.getAttribute("data-label") === given));
    inputOf("black").value = String(view.low);
    inputOf("white").value = String(view.high);
  }

  /** @param {boolean} isExample */
  taskText(isExample) {
    if (!this.isAtoms) return "Which class is the cluster in the ring? Press its key or its button.";
    return isExample ? "Mark every atom of this simulated image, then press Check my marks." : "Mark every atom, then press Seen completely, also if there is none.";
  }

  // ---- marks
  /** @param {Place} place @returns {Drawn[]} */
  drawn(place) {
    if (!this.isAtoms) return [];
    const checked = place.item < 0 ? this.answers.values.get(`checked/${place.example}`) : undefined;
    if (checked) return this.compared(checked, place);
    return [...this.answers.marks(place.key)].map(([key, mark]) => ({ key, y: mark.y, x: mark.x, kind: mark.uncertain ? "uncertain" : "sure" }));
  }

  /** Marks beside the known atoms of an example, the nearest first. @param {Mark[]} marks
   * @param {Place} place @returns {Drawn[]} */
  compared(marks, place) {
    const reach = this.manifest.tolerance_nm / place.image.pixel_size_nm;
    const pairs = marks.flatMap((mark, i) => place.image.points.map(([y, x], j) => ({ i, j, off: Math.hypot(y - mark.y, x - mark.x) })));
    /** @type {Set<number>} */
    const marked = new Set(), found = new Set();
    for (const { i, j } of pairs.filter((pair) => pair.off <= reach).sort((a, b) => a.off - b.off)) {
      if (!marked.has(i) && !found.has(j)) {
        marked.add(i);
        found.add(j);
      }
    }
    return [
      ...marks.map((mark, i) => /** @type {Drawn} */ ({ key: "", y: mark.y, x: mark.x, kind: marked.has(i) ? "hit" : "false" })),
      ...place.image.points.filter((_, j) => !found.has(j)).map(([y, x]) => /** @type {Drawn} */ ({ key: "", y, x, kind: "missed" })),
    ];
  }

  /** @param {Point} at @param {boolean} exactly @returns {Point} */
  snapped(at, exactly) {
    const { picture, pixelNm } = this.view;
    const spot = exactly || !picture ? null : snapToSpot(picture, at, pixelNm);
    return spot ?? at;
  }

  /** @param {Point} at @param {boolean} exactly */
  async addMark(at, exactly) {
    const { answers, place } = this;
    const { y, x } = this.snapped(at, exactly);
    const there = this.markAt(y, x);
    if (there) return this.select(there);
    const key = `mark/${place.key}/${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    await answers.set(key, { y, x, uncertain: false, seconds: answers.seconds });
    this.select(key);
  }

  /** @param {string} key @param {Point} to @param {boolean} exactly */
  async moveMark(key, to, exactly) {
    const mark = this.answers.values.get(key), { y, x } = this.view.limited(this.snapped(to, exactly));
    const there = this.markAt(y, x);
    if (mark && !there) await this.answers.set(key, { ...mark, y, x });
    this.select(key);
    if (there && there !== key) this.say("Another atom is marked there already.");
  }

  /** The mark of the image at exactly this place, "" without any. @param {number} y @param {number} x */
  markAt(y, x) {
    const found = [...this.answers.marks(this.place.key)].find(([, mark]) => Math.hypot(mark.y - y, mark.x - x) < 1e-6);
    return found ? found[0] : "";
  }

  /** @param {string} key */
  select(key) {
    const mark = this.answers.values.get(key);
    this.view.selected = key;
    this.refresh();
    if (mark) this.say(`Atom at x ${mark.x.toFixed(1)}, y ${mark.y.toFixed(1)}${mark.uncertain ? ", not sure" : ""}. ${this.view.marks.length} marked.`);
  }

  async remove() {
    const { answers, view, place } = this;
    if (!this.isAtoms) {
      if (place.item >= 0 && answers.label(place.item)) await answers.set(`label/${place.item}`, null);
    } else if (answers.values.has(view.selected)) {
      await answers.set(view.selected, null);
      this.say(`Mark deleted. ${answers.marks(place.key).size} marked.`);
    }
  }

  /** What "not sure" is about: the chosen mark, or the label that was just given, or that of this cluster. */
  get doubtKey() {
    if (this.isAtoms) return this.view.selected;
    return `label/${this.lastLabelled >= 0 ? this.lastLabelled : this.place.item}`;
  }

  async unsure() {
    const key = this.doubtKey, value = this.answers.values.get(key);
    if (!value) return;
    await this.answers.set(key, { ...value, uncertain: !value.uncertain });
    if (this.isAtoms) this.select(key);
    else this.say(`${value.label}: ${value.uncertain ? "sure" : "not sure"}${this.lastLabelled >= 0 ? ", of the cluster before" : ""}.`);
  }

  /** @param {"undo" | "redo"} step */
  async step(step) {
    const key = await this.answers[step]();
    const [, where] = key.split("/");
    const number = this.places.findIndex((place) => place.key === where);
    if (number >= 0 && number !== this.number) await this.go(number);
    if (key) this.say(step === "undo" ? "Undone." : "Redone.");
  }

  /** @param {number} step the next mark, or the one before */
  cycle(step) {
    const keys = this.view.marks.map((mark) => mark.key).filter(Boolean);
    if (!keys.length) return;
    const at = keys.indexOf(this.view.selected);
    const key = keys[(at + step + keys.length + (at < 0 && step < 0 ? 1 : 0)) % keys.length];
    const mark = this.answers.values.get(key);
    this.view.cursor = { y: mark.y, x: mark.x };
    this.view.moveCursor(0, 0);
    this.select(key);
  }

  // ---- examples, completed images, labels
  /** @param {Place} place */
  checkedOf(place) {
    const checked = this.answers.values.get(`checked/${place.example}`);
    if (this.isAtoms || !checked) return checked ?? null;
    return checked.find((/** @type {{cluster_id: number}} */ one) => one.cluster_id === place.cluster?.cluster_id) ?? null;
  }

  async check() {
    const { answers, place } = this;
    if (place.item >= 0 || !this.isAtoms || this.isDone(place)) return;
    await answers.note(`checked/${place.example}`, [...answers.marks(place.key).values()]);
    const kinds = this.drawn(place).map((mark) => mark.kind);
    /** @param {Drawn["kind"]} kind */
    const count = (kind) => kinds.filter((other) => other === kind).length;
    this.refresh();
    this.say(`Found ${count("hit")} of ${place.image.points.length} atoms (circles). Missed: ${count("missed")} (squares). False: ${count("false")} (crosses). Press Next.`);
  }

  async complete() {
    const { answers, place } = this;
    if (place.item < 0 || !this.isAtoms) return;
    const done = answers.isComplete(place.item);
    await answers.set(`complete/${place.item}`, done ? null : true);
    if (!done) await this.go(this.number + 1);
  }

  /** @param {string} label */
  async setLabel(label) {
    const { answers, place } = this;
    if (this.isAtoms || !this.labels.includes(label)) return;
    if (place.item >= 0) {
      await answers.set(`label/${place.item}`, { label, uncertain: false });
      await this.go(this.number + 1);
      this.lastLabelled = place.item;
      this.refresh();
      return;
    }
    if (this.checkedOf(place)) return;
    const cluster = /** @type {Cluster} */ (place.cluster);
    const before = answers.values.get(`checked/${place.example}`) ?? [];
    await answers.note(`checked/${place.example}`, [...before, { cluster_id: cluster.cluster_id, label }]);
    this.refresh();
    this.say(label === cluster.label ? `Right: ${label}. Press Next.` : `This one is ${cluster.label}. Press Next.`, label !== cluster.label);
  }

  // ---- view
  /** @param {number} low @param {number} high */
  setContrast(low, high) {
    const top = Number(inputOf("white").max);
    this.view.setContrast(Math.max(0, Math.min(top - 1, Math.round(low))), Math.max(1, Math.min(top, Math.round(high))));
    this.refresh();
  }

  /** @param {string} text @param {boolean} [wrong] */
  say(text, wrong = false) {
    byId("status").textContent = text;
    byId("status").classList.toggle("wrong", wrong);
  }

  /** @param {string} text */
  warn(text) {
    byId("warning").textContent = text;
    byId("warning").hidden = false;
  }

  // ---- save
  async save() {
    await this.noteTime();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.answers.toText()], { type: "application/json" }));
    const name = this.answers.name.trim().replace(/[^\p{L}\p{N}_-]+/gu, "_").slice(0, 40) || "answers";
    link.download = `${name}-${this.pack.hash.slice(0, 8)}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    this.say(`Saved as ${link.download}.`);
    byId("sent").textContent = `Saved as ${link.download}. Send this file back.`;
  }

  async send() {
    await this.noteTime();
    try {
      const reply = await fetch("answers", { method: "POST", headers: { "Content-Type": "application/json" }, body: this.answers.toText() });
      byId("sent").textContent = reply.ok ? "Your answers have arrived." : `Your answers were not accepted: ${await reply.text()}`;
    } catch {
      byId("sent").textContent = "The address does not answer. Save your answers and send the file.";
    }
  }

  async other() {
    if (!confirm("Begin as another person? Save the answers first: this page then shows the new ones only.")) return;
    await this.answers.begin();
    this.refresh();
  }

  // ---- keys and buttons
  /** @returns {Command[]} */
  listCommands() {
    const { view } = this;
    /** @param {number} dx @param {number} dy @param {KeyboardEvent | null} event */
    const arrow = (dx, dy, event) => {
      const mark = this.answers.values.get(view.selected);
      if (event?.shiftKey && mark && this.isAtoms) return this.moveMark(view.selected, { y: mark.y + dy, x: mark.x + dx }, true);
      if (this.isAtoms && !event?.ctrlKey) view.moveCursor(10 * dx, 10 * dy);
      else view.pan(-40 * dx, -40 * dy);
    };
    return [
      { keys: ["ArrowUp"], shown: "↑ ↓ ← →", what: "move the cross; with Shift the chosen mark, by a pixel; with Ctrl the image", task: "atoms", run: (event) => arrow(0, -1, event) },
      { keys: ["ArrowDown"], shown: "", what: "", run: (event) => arrow(0, 1, event) },
      { keys: ["ArrowLeft"], shown: "", what: "", run: (event) => arrow(-1, 0, event) },
      { keys: ["ArrowRight"], shown: "", what: "", run: (event) => arrow(1, 0, event) },
      { keys: ["ArrowUp"], shown: "↑ ↓ ← →", what: "move the image", task: "clusters", run: (event) => arrow(0, -1, event) },
      { keys: ["Enter", " "], once: true, shown: "Enter or Space", what: "mark an atom at the cross; with Alt exactly there", task: "atoms", run: (event) => view.canMark && this.addMark({ ...view.cursor }, Boolean(event?.altKey)) },
      { keys: ["j"], shown: "J", what: "choose the next mark", task: "atoms", run: () => this.cycle(1) },
      { keys: ["k"], shown: "K", what: "choose the mark before", task: "atoms", run: () => this.cycle(-1) },
      { keys: ["Delete", "Backspace"], shown: "Delete", what: "delete the chosen mark or the label", run: () => this.remove() },
      { keys: ["u"], once: true, shown: "U", what: this.isAtoms ? "not sure, or sure again" : "not sure, or sure again; right after a label it is about that one", run: () => this.unsure() },
      { keys: ["c"], once: true, shown: "C", what: "seen completely", task: "atoms", run: () => this.complete() },
      { keys: ["n", "PageDown"], shown: "N", what: "next", run: () => this.go(this.number + 1) },
      { keys: ["p", "PageUp"], shown: "P", what: "previous", run: () => this.go(this.number - 1) },
      { keys: ["+", "="], shown: "+", what: "zoom in", run: () => view.zoom(1.25) },
      { keys: ["-"], shown: "−", what: "zoom out", run: () => view.zoom(0.8) },
      { keys: ["f", "Home"], shown: "F", what: "show the whole image", run: () => view.fit() },
      { keys: ["s"], shown: "S", what: "contrast as at first", run: () => this.setContrast(this.place.image.low, this.place.image.high) },
      { keys: ["?"], shown: "?", what: "this list", run: () => /** @type {HTMLDialogElement} */ (byId("help")).showModal() },
    ];
  }

  listKeys() {
    const rows = this.commands.filter((one) => one.shown && (!one.task || one.task === this.manifest.task)).map((one) => [one.shown, one.what]);
    rows.push(["Ctrl+Z", "undo"], ["Ctrl+Y", "redo"]);
    if (!this.isAtoms) this.labels.forEach((label, i) => rows.push([this.keyOf(i), label]));
    byId("key-table").replaceChildren(...rows.map(([shown, what]) => {
      const row = document.createElement("tr"), key = document.createElement("kbd");
      key.textContent = shown;
      row.insertCell().append(key);
      row.insertCell().textContent = what;
      return row;
    }));
  }

  /** The key of a class; "x" says that it is no cluster. @param {number} i */
  keyOf(i) {
    return i === this.labels.length - 1 ? "x" : LETTERS[i] ?? "";
  }

  listClasses() {
    if (this.isAtoms) return;
    byId("classes").replaceChildren(...this.labels.map((label, i) => {
      const button = document.createElement("button"), key = document.createElement("kbd");
      button.type = "button";
      button.setAttribute("data-label", label);
      key.textContent = this.keyOf(i);
      button.append(key, label);
      button.addEventListener("click", (event) => this.once(event, () => this.setLabel(label)));
      return button;
    }));
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (byId("work").hidden || document.querySelector("dialog[open]") || (target.tagName === "INPUT" && (inputOf(target.id).type !== "range" || /^(Arrow|Home|End|Page)/.test(event.key)))) return;
    if (target.tagName === "BUTTON" && (event.key === "Enter" || event.key === " ")) return;
    const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if ((event.ctrlKey || event.metaKey) && (letter === "z" || letter === "y")) {
      event.preventDefault();
      this.run(() => this.step(letter === "y" || event.shiftKey ? "redo" : "undo"));
      return;
    }
    if (event.metaKey || (event.ctrlKey && !letter.startsWith("Arrow"))) return;
    const label = this.isAtoms ? -1 : this.labels.findIndex((_, i) => this.keyOf(i) === letter);
    const command = this.commands.find((one) => one.keys.includes(letter) && (!one.task || one.task === this.manifest.task));
    if (label < 0 && !command) return;
    event.preventDefault();
    if (event.repeat && (label >= 0 || command?.once)) return;  // a key that is held is one answer
    this.run(() => (label >= 0 ? this.setLabel(this.labels[label]) : command?.run(event)));
  }

  /** Answer by a button: the second click of a double click would answer for the next image. @param {Event} event @param {() => any} answer */
  once(event, answer) {
    if (/** @type {MouseEvent} */ (event).detail > 1) this.say("A double click counts once.");
    else this.run(answer);
  }

  connect() {
    /** @type {Record<string, () => any>} */
    const actions = {
      previous: () => this.go(this.number - 1), next: () => this.go(this.number + 1),
      undo: () => this.step("undo"), redo: () => this.step("redo"), remove: () => this.remove(), unsure: () => this.unsure(),
      out: () => this.view.zoom(0.8), in: () => this.view.zoom(1.25), fit: () => this.view.fit(),
      check: () => this.check(), complete: () => this.complete(),
    };
    for (const button of document.querySelectorAll("[data-do]")) {
      const name = button.getAttribute("data-do") ?? "", isAnswer = name === "check" || name === "complete";
      button.addEventListener("click", (event) => (isAnswer ? this.once(event, actions[name]) : this.run(actions[name])));
    }
    for (const button of document.querySelectorAll(".save")) button.addEventListener("click", () => this.save());
    byId("send").addEventListener("click", () => this.send());
    byId("back").addEventListener("click", () => this.run(() => this.go(Math.min(this.firstOpen(), this.places.length - 1))));
    byId("other").addEventListener("click", () => this.run(() => this.other()));
    byId("keys").addEventListener("click", () => /** @type {HTMLDialogElement} */ (byId("help")).showModal());
    byId("read").addEventListener("click", () => /** @type {HTMLDialogElement} */ (byId("reader")).showModal());
    for (const id of ["black", "white"]) byId(id).addEventListener("input", () => this.setContrast(Number(inputOf("black").value), Number(inputOf("white").value)));
    byId("begin").addEventListener("submit", async (event) => {
      event.preventDefault();
      const name = inputOf("name").value.trim();
      if (!name) return;
      await this.answers.note("name", name);
      await this.answers.note("begun", true);
      await this.go(this.firstOpen());
    });
    document.addEventListener("keydown", (event) => this.onKey(event));
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.noteTime();
      else {
        this.since = Date.now();
        this.answers.log?.read();
      }
    });
    window.addEventListener("beforeunload", (event) => {
      if (!this.answers.log?.isKept && this.answers.done.length) event.preventDefault();
    });
  }
}

const page = new Page(JSON.parse(byId("pack").textContent ?? ""));
page.open().catch((error) => page.warn(`This page can not be shown: ${error}`));
