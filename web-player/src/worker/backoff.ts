/** Waits that double, with jitter so that viewers cut off together don't come back together. */

export interface BackoffOptions {
  readonly firstMs: number;
  readonly mostMs: number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  readonly #random: () => number;
  #failures = 0;

  constructor(options: BackoffOptions, random: () => number = Math.random) {
    this.#options = options;
    this.#random = random;
  }

  /** Milliseconds to wait before the next try. */
  next(): number {
    const { firstMs, mostMs } = this.#options;
    const full = Math.min(mostMs, firstMs * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 30);
    return full * (0.5 + this.#random() / 2);
  }

  /** It worked: start small again. */
  reset(): void {
    this.#failures = 0;
  }
}
