// Decisions on their way. Each is kept under its own name until the service has said that it is on
// disk, is held for some seconds in which it can be undone, and is sent again under the same key
// until then, so that a broken connection neither loses nor doubles it.

import { keep, kept, keptNames } from "./kept.js";
import { ask } from "./service.js";

const HOLD = 6; // seconds in which a decision can be undone, unless the operator wants others
const LONGEST_PAUSE = 60_000;

export class Outbox {
  /** `changed` is called whenever an entry changes, `sent` with one that is on disk. */
  constructor(changed, sent) {
    Object.assign(this, { changed, sent, entries: new Map(), timers: new Map() });
  }

  /** Takes up what an earlier page left. */
  resume() {
    for (const name of keptNames("outbox.")) {
      const entry = kept(name);
      if (entry) this.#take({ ...entry, state: entry.state === "refused" ? "refused" : "held" });
    }
  }

  /** An entry: {key, bodies, words, about, due, done, tries, state, error}. */
  add(bodies, words, about) {
    const key = crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random()}`;
    this.#take({
      key, bodies, words, about, due: Date.now() + 1000 * kept("hold", HOLD), done: 0, tries: 0, state: "held", error: null,
    });
    return key;
  }

  /** Takes the last one back that can be; it, or null. */
  undo(key = null) {
    const all = [...this.entries.values()].filter((e) => e.state === "held" && e.done === 0);
    const entry = key ? all.find((e) => e.key === key) : all.at(-1);
    if (!entry) return null;
    this.#drop(entry);
    return entry;
  }

  /** Gives one up that was refused; it. */
  discard(key) {
    const entry = this.entries.get(key);
    if (entry) this.#drop(entry);
    return entry;
  }

  /** Sends at once what waits for a better time. */
  hurry() {
    for (const entry of this.entries.values()) {
      if (entry.state === "waiting") this.#plan(entry, 0);
    }
  }

  /** Whether a request is decided on here. */
  holds(requestId) {
    return [...this.entries.values()].some(
      (e) => e.state !== "refused" && e.bodies.some((body) => body.request_id === requestId));
  }

  #take(entry) {
    this.entries.set(entry.key, entry);
    this.#note(entry);
    if (entry.state !== "refused") this.#plan(entry, Math.max(0, entry.due - Date.now()));
  }

  #note(entry) {
    entry.stored = keep(`outbox.${entry.key}`, { ...entry, stored: true });
    this.changed();
  }

  /** Whether another tab took it back or sent it. */
  #isGone(entry) {
    return entry.stored && kept(`outbox.${entry.key}`) === null;
  }

  #drop(entry) {
    clearTimeout(this.timers.get(entry.key));
    this.entries.delete(entry.key);
    keep(`outbox.${entry.key}`, null);
    this.changed();
  }

  #plan(entry, pause) {
    clearTimeout(this.timers.get(entry.key));
    this.timers.set(entry.key, setTimeout(() => this.#send(entry), pause));
  }

  async #send(entry) {
    if (!this.entries.has(entry.key) || entry.state === "sending") return;
    if (this.#isGone(entry)) { this.#drop(entry); return; }
    entry.state = "sending";
    this.changed();
    try {
      while (entry.done < entry.bodies.length) {
        const body = { ...entry.bodies[entry.done], idempotency_key: `${entry.key}.${entry.done}` };
        await ask("POST", "/v1/feedback", body);
        entry.done += 1;
        this.#note(entry);
      }
      this.#drop(entry);
      this.sent(entry);
    } catch (error) {
      this.#failed(entry, error);
    }
  }

  #failed(entry, error) {
    entry.error = error.words || String(error);
    entry.state = error.again ? "waiting" : "refused";
    entry.tries += 1;
    this.#note(entry);
    if (error.again) {
      const pause = Math.min(LONGEST_PAUSE, 1000 * 2 ** Math.min(entry.tries, 6));
      this.#plan(entry, Math.max(pause, 1000 * (error.after || 0)));
    }
    this.changed(error);
  }
}
