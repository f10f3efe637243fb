/** Bits per second, over the last two seconds of arrivals. */

const WINDOW_MS = 2000;
const SLOT_MS = 200;

export class BitrateMeter {
  readonly #slots: { at: number; bytes: number }[] = [];

  add(bytes: number, now: number): void {
    const last = this.#slots.at(-1);
    if (last && now - last.at < SLOT_MS) last.bytes += bytes;
    else this.#slots.push({ at: now, bytes });
  }

  bitrate(now: number): number {
    while (this.#slots[0] && now - this.#slots[0].at > WINDOW_MS) this.#slots.shift();
    const [first] = this.#slots;
    if (!first) return 0;
    const bytes = this.#slots.reduce((sum, slot) => sum + slot.bytes, 0);
    // Shortly after the start the window isn't full yet.
    return Math.round((bytes * 8000) / Math.max(now - first.at, SLOT_MS * 2));
  }
}

/** A share of the last measurements, for durations whose outliers matter. */
export class RecentDurations {
  readonly #values: number[] = [];

  add(ms: number): void {
    this.#values.push(ms);
    if (this.#values.length > 64) this.#values.shift();
  }

  /** The duration that `share` (0 to 1) of them stay under; 0 without any. */
  quantile(share: number): number {
    const sorted = this.#values.toSorted((a, b) => a - b);
    return sorted[Math.floor((sorted.length - 1) * share)] ?? 0;
  }
}
