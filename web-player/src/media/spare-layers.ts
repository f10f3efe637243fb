/**
 * Are the frames that can be left out worth their bandwidth? On a line too thin for them they come in
 * what the others leave over: too late to be shown, and in the way of those that are. So a group's are
 * given up when they have been late for a while, and those of the next groups are not taken at all, of
 * more groups each time, until a trial shows that the line can carry them.
 */

/** Late for so long, all of them: they won't catch up in time. */
const LATE_MS = 300;
/** A trial fills the queue on the line, which holds the picture up a few times: not too often. */
const MAX_GROUPS_WITHOUT = 15;

export class SpareLayers {
  #lateSince: number | undefined;
  /** Trials that failed, one after the other. */
  #failed = 0;
  #groupsWithout = 0;

  /** A group begins: whether to take them. */
  handleGroup(): boolean {
    this.#lateSince = undefined;
    if (this.#groupsWithout === 0) return true;
    this.#groupsWithout--;
    return false;
  }

  /** One of them came, after the frame behind it was given out or not. True: give this group's up. */
  handleObject(late: boolean, now: number): boolean {
    if (!late) this.#lateSince = undefined;
    else this.#lateSince ??= now;
    if (this.#lateSince === undefined || now - this.#lateSince < LATE_MS) return false;
    this.handleCut();
    return true;
  }

  /** The relay gave this group's up, or we do: the trial failed. */
  handleCut(): void {
    this.#lateSince = undefined;
    // Once may be a hiccup: the next group is tried at once.
    this.#groupsWithout = Math.min(2 ** this.#failed - 1, MAX_GROUPS_WITHOUT);
    this.#failed++;
  }

  /** All those of a group came, and were not given up. */
  handleWhole(): void {
    this.#failed = 0;
  }
}
