/**
 * Tells the relay what this viewer sees: the track `report` in a namespace of its own, `weir/viewers/` and 16
 * random hex digits, one small JSON object a group. Nothing in it says who watches, or what.
 *
 * Counters count from the session's start; what was not told before a session broke, the next one tells.
 * Only relays of ours are told: another would pass the track on like any broadcast.
 */

import { utf8 } from "../moqt/bytes";
import { type FullTrackName, fullTrackName } from "../moqt/names";
import type { Publication, PublicationEvents } from "../moqt/publication";

/** The first report comes this long after the first picture. */
const FIRST_MS = 2000;
const INTERVAL_MS = 5000;
/** Between two looks further apart, the page was frozen or the machine asleep: nobody watched. */
const MAX_LOOK_MS = 3000;
/** A picture that stood still for longer before a session began is no stall of that session's. */
const MAX_CARRIED_MS = 300_000;

interface Counters {
  readonly stalls: number;
  readonly stalledMs: number;
  readonly framesDropped: number;
}

/** How it is going; counters since `connect()`, unknown is null. */
export interface Experience extends Counters {
  readonly latencyMs: number | null;
  readonly latencyErrorMs: number | null;
  /** Null until the first picture. */
  readonly joinMs: number | null;
  /** Whether anybody can see the picture. */
  readonly visible: boolean;
}

/** What a report is sent on. */
export interface ReportSession {
  /** Whether reports are for it. */
  readonly isWeir: boolean;
  readonly transport: string;
  publish(track: FullTrackName, events: PublicationEvents): Pick<Publication, "ready" | "send">;
}

/** As the relay reads it. */
interface Report {
  readonly latency_ms?: number;
  /** Absent: nobody knows the capture clock, and the latency may be wrong by any amount. */
  readonly latency_error_ms?: number;
  readonly stalls: number;
  readonly stalled_ms: number;
  readonly frames_dropped: number;
  /** In the session that was the first to tell. */
  readonly join_ms?: number;
  readonly transport: string;
}

const none: Counters = { stalls: 0, stalledMs: 0, framesDropped: 0 };

function minus(a: Counters, b: Counters): Counters {
  return {
    stalls: a.stalls - b.stalls,
    stalledMs: a.stalledMs - b.stalledMs,
    framesDropped: a.framesDropped - b.framesDropped,
  };
}

function plus(a: Counters, b: Counters): Counters {
  return minus(a, minus(none, b));
}

/** Counts what happens while somebody can see it. */
export class SeenCounters {
  #seen = none;
  #last: { readonly counters: Counters; readonly at: number; readonly visible: boolean } | undefined;

  get seen(): Counters {
    return this.#seen;
  }

  handle(counters: Counters, visible: boolean, now: number): void {
    const last = this.#last;
    this.#last = { counters, at: now, visible };
    const watched = last?.visible && visible && now - last.at <= MAX_LOOK_MS;
    if (last && watched) this.#seen = plus(this.#seen, minus(counters, last.counters));
  }
}

/** One session's reports. */
interface Telling {
  readonly session: ReportSession;
  readonly publication: Pick<Publication, "ready" | "send">;
  readonly base: Counters;
  nextGroup: bigint;
}

export class Reporter {
  readonly #counters = new SeenCounters();
  readonly #digits: () => string;
  /** What was told so far, to whomever. */
  #told = none;
  /** Who was told of the join. */
  #joinTold: ReportSession | undefined;
  #telling: Telling | undefined;
  /** Who wants no reports, or no more. */
  readonly #unwilling = new WeakSet<ReportSession>();
  #due: number | undefined;

  constructor(digits: () => string = randomDigits) {
    this.#digits = digits;
  }

  /** A few times a second. `session`: the one that plays, if any. */
  tick(session: ReportSession | undefined, experience: Experience, now: number): void {
    this.#counters.handle(experience, experience.visible, now);
    if (experience.joinMs === null || !session?.isWeir || this.#unwilling.has(session)) return;
    this.#due ??= now + FIRST_MS;
    if (this.#telling?.session !== session) this.#begin(session);
    const telling = this.#telling;
    if (!telling?.publication.ready || now < this.#due) return;
    this.#due = now + INTERVAL_MS;
    this.#tell(telling, experience);
  }

  #begin(session: ReportSession): void {
    const publication = session.publish(fullTrackName(`weir/viewers/${this.#digits()}`, "report"), {
      handleEnd: () => {
        this.#unwilling.add(session);
      },
    });
    const { stalledMs } = this.#counters.seen;
    const base = { ...this.#told, stalledMs: Math.max(this.#told.stalledMs, stalledMs - MAX_CARRIED_MS) };
    this.#telling = { session, publication, base, nextGroup: 0n };
  }

  #tell(telling: Telling, { latencyMs, latencyErrorMs, joinMs, visible }: Experience): void {
    const { session, publication, base } = telling;
    const { stalls, stalledMs, framesDropped } = minus(this.#counters.seen, base);
    this.#joinTold ??= session;
    const report: Report = {
      // A page in the background shows nothing, late or not.
      ...(visible && latencyMs !== null && { latency_ms: tenths(latencyMs) }),
      ...(visible &&
        latencyMs !== null &&
        latencyErrorMs !== null && { latency_error_ms: tenths(latencyErrorMs) }),
      stalls,
      stalled_ms: Math.round(stalledMs),
      frames_dropped: framesDropped,
      ...(joinMs !== null && this.#joinTold === session && { join_ms: tenths(joinMs) }),
      transport: session.transport,
    };
    publication.send(telling.nextGroup++, utf8.encode(JSON.stringify(report)));
    this.#told = this.#counters.seen;
  }
}

function tenths(value: number): number {
  return Math.round(value * 10) / 10;
}

/** 16 hex digits. */
function randomDigits(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
