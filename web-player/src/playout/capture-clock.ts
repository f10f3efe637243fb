/**
 * What the clock shows that stamped the pictures, told by our own: NTP's way, from questions that were
 * answered with the time. Our own clock is `performance.now()`, which nobody sets; the other one may be set,
 * and what was known of it is void then.
 */

/** Two clocks drift apart by this much at most, as a share of the time since they were compared. */
const DRIFT = 100e-6;
const MAX_SAMPLES = 8;
/** An answer that may be this wrong says nothing. */
const MAX_ERROR_MS = 60_000;

export interface ClockAnswer {
  /** By our clock, milliseconds. */
  readonly askedAt: number;
  readonly answeredAt: number;
  /** What the other clock showed in between, milliseconds since the Unix epoch … */
  readonly theirs: number;
  /** … and how wrong whoever answered may be about it. */
  readonly errorMs: number;
}

export interface ClockReading {
  /** Milliseconds since the Unix epoch. */
  readonly ms: number;
  /** Either way. */
  readonly errorMs: number;
}

interface Sample {
  readonly at: number;
  readonly offset: number;
  readonly errorMs: number;
}

export class CaptureClock {
  #samples: Sample[] = [];

  handleAnswer({ askedAt, answeredAt, theirs, errorMs }: ClockAnswer): void {
    const trip = answeredAt - askedAt;
    const sample: Sample = {
      at: answeredAt,
      offset: theirs - (askedAt + answeredAt) / 2,
      errorMs: trip / 2 + errorMs,
    };
    const plausible = trip >= 0 && errorMs >= 0 && sample.errorMs <= MAX_ERROR_MS;
    if (!plausible || !Number.isFinite(sample.offset)) return;
    // What can't be true together with the newest was true of a clock that was set since.
    this.#samples = this.#samples.filter(
      (older) => Math.abs(older.offset - sample.offset) <= errorAt(older, sample.at) + sample.errorMs,
    );
    this.#samples.push(sample);
    if (this.#samples.length > MAX_SAMPLES) this.#samples.shift();
  }

  /** What the capture clock shows when ours shows `now`; undefined: nobody knows. */
  read(now: number): ClockReading | undefined {
    let best: { readonly offset: number; readonly errorMs: number } | undefined;
    for (const sample of this.#samples) {
      const errorMs = errorAt(sample, now);
      if (!best || errorMs < best.errorMs) best = { offset: sample.offset, errorMs };
    }
    return best && { ms: now + best.offset, errorMs: best.errorMs };
  }

  /** Another broadcast: another clock. */
  reset(): void {
    this.#samples = [];
  }
}

function errorAt({ at, errorMs }: Sample, now: number): number {
  return errorMs + Math.abs(now - at) * DRIFT;
}
