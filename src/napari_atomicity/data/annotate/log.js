// @ts-check
// Everything that a person does is an entry of a log that only grows, in the browser's IndexedDB.
// All tabs of a pack write into one log and read it in one order, so they show the same and none
// overwrites another. An entry is shown once it is on the disk.

/** @typedef {{session: string, key: string, value: any, before: any, step: "do" | "undo" | "redo" | "note"}} Entry */
/** @typedef {(entry: Entry) => void} Reader */

export class Log {
  /** @param {IDBDatabase | null} database @param {string} name @param {Reader} reader */
  constructor(database, name, reader) {
    this.database = database;
    this.reader = reader;
    this.last = 0;
    this.onLost = () => {};
    /** @type {Promise<void>} */
    this.queue = Promise.resolve();
    /** @type {BroadcastChannel | null} */
    this.channel = "BroadcastChannel" in window ? new BroadcastChannel(name) : null;
    if (this.channel) this.channel.onmessage = () => this.read();
  }

  /** Open the log of a pack; without a database what is done is kept in memory only.
   * @param {string} hash @param {Reader} reader */
  static async open(hash, reader) {
    const name = `atomicity-${hash.slice(0, 32)}`;
    const database = await new Promise((resolve) => {
      try {
        const request = indexedDB.open(name, 1);
        request.onupgradeneeded = () => request.result.createObjectStore("log", { autoIncrement: true });
        request.onsuccess = () => resolve(request.result);
        request.onerror = request.onblocked = () => resolve(null);
      } catch {
        resolve(null);
      }
    });
    const log = new Log(database, name, reader);
    await log.read();
    return log;
  }

  get isKept() {
    return this.database !== null;
  }

  /** Write entries, all or none. @param {Entry[]} entries @returns {Promise<void>} */
  async append(entries) {
    const { database } = this;
    if (!database) {
      entries.forEach(this.reader);
      return;
    }
    try {
      await new Promise((resolve, reject) => {
        const transaction = database.transaction("log", "readwrite", { durability: "strict" });
        for (const entry of entries) transaction.objectStore("log").add(entry);
        transaction.oncomplete = () => resolve(undefined);
        transaction.onerror = transaction.onabort = () => reject(transaction.error);
        transaction.commit();
      });
      this.channel?.postMessage("more");
      await this.read();
    } catch {  // as of a full disk: from here on in memory only
      this.database = null;
      entries.forEach(this.reader);
      this.onLost();
    }
  }

  /** Read what is new, in order; one reading at a time. @returns {Promise<void>} */
  read() {
    this.queue = this.queue.catch(() => {}).then(() => this.readNew());
    return this.queue;
  }

  /** @returns {Promise<void>} */
  async readNew() {
    const { database } = this;
    if (!database) return;
    const range = IDBKeyRange.lowerBound(this.last, true);
    const store = database.transaction("log").objectStore("log");
    const [keys, entries] = await Promise.all([result(store.getAllKeys(range)), result(store.getAll(range))]);
    if (keys.length) this.last = Number(keys[keys.length - 1]);
    entries.forEach(this.reader);
  }
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
