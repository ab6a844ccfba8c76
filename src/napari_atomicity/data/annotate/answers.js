// @ts-check
// The answers of one person: the last value of each key of the log, and what undo takes back.
import { Log } from "./log.js";

/** @typedef {import("./log.js").Entry} Entry */
/** @typedef {{y: number, x: number, uncertain: boolean, seconds: number}} Mark */
/** @typedef {{cluster_id: number, y_px: number, x_px: number, diameter_px: number, label: string | null}} Cluster */
/** @typedef {{name: string, height_px: number, width_px: number, pixel_size_nm: number, low: number, high: number, points: [number, number][], clusters: Cluster[]}} PackImage */
/** @typedef {{image: number, cluster: number | null, repeat: boolean}} Item */
/** @typedef {{title: string, instructions: string, task: "atoms" | "clusters", classes: string[], version: string, tolerance_nm: number, annotator: string | null, part: number, parts: number, images: PackImage[], items: Item[], examples: PackImage[]}} Manifest */
/** @typedef {{hash: string, send: boolean, manifest: Manifest}} Pack */

export class Answers {
  /** @param {Pack} pack @param {() => void} changed */
  constructor(pack, changed) {
    this.pack = pack;
    this.changed = changed;
    this.session = "";
    /** @type {Map<string, any>} */
    this.values = new Map();
    /** @type {Entry[]} */
    this.done = [];
    /** @type {Entry[]} */
    this.undone = [];
    /** @type {number[]} */
    this.order = [];
    /** @type {Log | null} */
    this.log = null;
  }

  /** @param {Pack} pack @param {() => void} changed */
  static async open(pack, changed) {
    const answers = new Answers(pack, changed);
    answers.log = await Log.open(pack.hash, (entry) => answers.take(entry));
    if (!answers.session) await answers.begin();
    return answers;
  }

  /** Begin as another person: earlier answers stay in the log. */
  async begin() {
    const session = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
    await this.write([{ session, key: "started", value: new Date().toISOString(), before: null, step: "note" }]);
  }

  /** @param {Entry} entry */
  take(entry) {
    if (entry.key === "started" && entry.session !== this.session) {
      this.session = entry.session;
      this.values.clear();
      this.done = [];
      this.undone = [];
      this.order = orderOf(this.pack.manifest.items, entry.session);
      this.propose();
    }
    if (entry.session !== this.session) return;
    if (entry.value === null) this.values.delete(entry.key);
    else this.values.set(entry.key, entry.value);
    if (entry.step === "do") {
      this.done.push(entry);
      this.undone = [];
    } else if (entry.step === "undo") {
      const taken = this.done.pop();
      if (taken) this.undone.push(taken);
    } else if (entry.step === "redo") {
      const again = this.undone.pop();
      if (again) this.done.push(again);
    }
    this.changed();
  }

  /** Marks that the author of the pack proposes. */
  propose() {
    this.pack.manifest.items.forEach((item, i) => {
      if (item.cluster !== null) return;
      this.pack.manifest.images[item.image].points.forEach(([y, x], k) => {
        this.values.set(`mark/${i}/p${k}`, { y, x, uncertain: false, seconds: 0 });
      });
    });
  }

  /** @param {Entry[]} entries */
  async write(entries) {
    if (this.log) await this.log.append(entries);
  }

  /** Set a value as a step that can be undone. @param {string} key @param {any} value */
  set(key, value) {
    return this.write([this.entry(key, value, "do")]);
  }

  /** Set a value that is no step: name, time, view of an example. @param {string} key @param {any} value */
  note(key, value) {
    return this.write([this.entry(key, value, "note")]);
  }

  /** @param {string} key @param {any} value @param {Entry["step"]} step @returns {Entry} */
  entry(key, value, step) {
    return { session: this.session, key, value, before: this.values.get(key) ?? null, step };
  }

  /** Take back the last step. @returns {Promise<string>} its key, "" without any */
  async undo() {
    const last = this.done[this.done.length - 1];
    if (last) await this.write([this.entry(last.key, last.before, "undo")]);
    return last ? last.key : "";
  }

  /** @returns {Promise<string>} */
  async redo() {
    const last = this.undone[this.undone.length - 1];
    if (last) await this.write([this.entry(last.key, last.value, "redo")]);
    return last ? last.key : "";
  }

  /** The marks of an item, or of an example, by key. @param {string} place @returns {Map<string, Mark>} */
  marks(place) {
    const found = new Map();
    for (const [key, value] of this.values) if (key.startsWith(`mark/${place}/`)) found.set(key, value);
    return found;
  }

  /** @param {number} item @returns {{label: string, uncertain: boolean} | null} */
  label(item) {
    return this.values.get(`label/${item}`) ?? null;
  }

  /** @param {number} item */
  isComplete(item) {
    return this.values.get(`complete/${item}`) === true || this.label(item) !== null;
  }

  get nComplete() {
    return this.order.filter((item) => this.isComplete(item)).length;
  }

  get name() {
    return this.values.get("name") ?? this.pack.manifest.annotator ?? "";
  }

  /** Seconds since the beginning. */
  get seconds() {
    return Math.round((Date.now() - Date.parse(this.values.get("started"))) / 100) / 10;
  }

  /** The file to send back: a line for each mark, so that an error can name its line. */
  toText() {
    const head = {
      format: 1, kind: "answers", program: "napari-atomicity", version: this.pack.manifest.version,
      pack: this.pack.hash, session: this.session, name: this.name.trim(),
      started: this.values.get("started"), saved: new Date().toISOString(),
    };
    const lines = Object.entries(head).map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
    const examples = this.pack.manifest.examples.map((_, i) => this.itemText({ example: i, complete: this.values.has(`checked/${i}`) }, this.values.get(`checked/${i}`) ?? []));
    const items = this.order.map((item, place) => {
      const about = { item, place, complete: this.isComplete(item), seconds: this.values.get(`seconds/${item}`) ?? 0, ...this.label(item) };
      return this.itemText(about, [...this.marks(String(item)).values()]);
    });
    lines.push(`"examples": [\n${examples.join(",\n")}\n]`, `"items": [\n${items.join(",\n")}\n]`);
    lines.push(`"manifest": ${JSON.stringify(this.pack.manifest)}`);
    return `{\n${lines.join(",\n")}\n}\n`;
  }

  /** @param {object} about @param {any[]} marks */
  itemText(about, marks) {
    const rows = marks.map((mark) => "cluster_id" in mark ? JSON.stringify(mark)
      : JSON.stringify({ x_px: mark.x, y_px: mark.y, uncertain: mark.uncertain, seconds: mark.seconds }));
    const text = JSON.stringify(about).slice(0, -1);
    const name = rows.length && rows[0].includes("cluster_id") ? "labels" : "marks";
    return rows.length ? `${text}, "${name}": [\n${rows.join(",\n")}\n]}` : `${text}}`;
  }
}

/** An order of its own for each person; repeated items come half a pack after the first, or later.
 * @param {Item[]} items @param {string} session @returns {number[]} */
export function orderOf(items, session) {
  const random = randomOf(session);
  const first = items.map((_, i) => i).filter((i) => !items[i].repeat);
  for (let i = first.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [first[i], first[j]] = [first[j], first[i]];
  }
  const order = [...first];
  items.forEach((item, i) => {
    if (!item.repeat) return;
    const before = order.findIndex((j) => !items[j].repeat && items[j].image === item.image && items[j].cluster === item.cluster);
    const least = Math.min(order.length, before + 1 + Math.floor(first.length / 2));
    order.splice(least + Math.floor(random() * (order.length - least + 1)), 0, i);
  });
  return order;
}

/** Random numbers of a text (mulberry32). @param {string} text */
function randomOf(text) {
  let state = 0x811c9dc5;
  for (const letter of text) state = Math.imul(state ^ letter.charCodeAt(0), 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
