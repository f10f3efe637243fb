/** Watches the picture: did it start, does it move, for how long did it not. */

/** A picture that stands still for longer has stalled. */
const FROZEN_MS = 1000;

export class Watch {
  #progressAt: number | undefined;
  #frozenSince: number | undefined;
  #stalls = 0;
  #stalledMs = 0;

  get started(): boolean {
    return this.#progressAt !== undefined;
  }

  get frozen(): boolean {
    return this.#frozenSince !== undefined;
  }

  get stalls(): number {
    return this.#stalls;
  }

  stalledMs(now: number): number {
    return this.#stalledMs + (this.#frozenSince === undefined ? 0 : now - this.#frozenSince);
  }

  handleProgress(now: number): void {
    if (this.#frozenSince !== undefined) this.#stalledMs += now - this.#frozenSince;
    this.#frozenSince = undefined;
    this.#progressAt = now;
  }

  tick(now: number): void {
    if (this.#frozenSince !== undefined || this.#progressAt === undefined) return;
    if (now - this.#progressAt < FROZEN_MS) return;
    this.#frozenSince = this.#progressAt;
    this.#stalls++;
  }
}
