/**
 * Decoded frames that wait for their time, in presentation order. Never gives out a frame older than the
 * one before; what can't be shown any more is closed at once, because a decoder has few frames to lend.
 */

export interface Closable {
  close(): void;
}

export interface TimedFrame<F extends Closable> {
  readonly frame: F;
  /** Milliseconds, on the publisher's clock. */
  readonly timestamp: number;
}

export class FrameQueue<F extends Closable> {
  readonly #frames: TimedFrame<F>[] = [];
  #shown = Number.NEGATIVE_INFINITY;

  get length(): number {
    return this.#frames.length;
  }

  /** Timestamp of the newest frame given out. */
  get shown(): number | undefined {
    return Number.isFinite(this.#shown) ? this.#shown : undefined;
  }

  /** False: it came too late, or twice, and is closed. */
  push(entry: TimedFrame<F>): boolean {
    if (entry.timestamp <= this.#shown) {
      entry.frame.close();
      return false;
    }
    let at = this.#frames.length;
    while (at > 0 && (this.#frames[at - 1]?.timestamp ?? 0) > entry.timestamp) at--;
    if (this.#frames[at - 1]?.timestamp === entry.timestamp) {
      entry.frame.close();
      return false;
    }
    this.#frames.splice(at, 0, entry);
    return true;
  }

  /** The newest frame stamped `position` or earlier; those it overtakes are closed. The caller closes it. */
  takeDue(position: number): TimedFrame<F> | undefined {
    let due: TimedFrame<F> | undefined;
    for (let first = this.#frames[0]; first && first.timestamp <= position; first = this.#frames[0]) {
      due?.frame.close();
      due = first;
      this.#frames.shift();
    }
    if (due) this.#shown = due.timestamp;
    return due;
  }

  /** The timestamp of the frame that comes next. */
  get next(): number | undefined {
    return this.#frames[0]?.timestamp;
  }

  /** Closes all that waits; the order of what was shown stays. */
  clear(): void {
    for (const { frame } of this.#frames.splice(0)) frame.close();
  }

  /** Another timeline begins: any timestamp may come now. */
  reset(): void {
    this.clear();
    this.#shown = Number.NEGATIVE_INFINITY;
  }
}
