/**
 * Keeps a broadcast playing: opens sessions, notices when one is dead, moves to another without losing
 * the picture, and says what state all that is in.
 *
 * There is at most one active connection, which feeds the stage, and one candidate on its way to replace
 * it: the first, the next after a loss, after GOAWAY, or beside one that has gone silent.
 */

import type { FromWorker, PlayerState, Problem, Source } from "../bridge";
import { type Endpoint, PageServerSilent, resolveEndpoint } from "../endpoint";
import type { AssembledObject } from "../media/assembler";
import type { MediaKind, Selection, Unplayable } from "../media/tracks";
import { codeName, RequestErrorCode } from "../moqt/errors";
import type { GoAway, RequestError } from "../moqt/model";
import { problems } from "../problems";
import { parseSource } from "../source";
import { Backoff } from "./backoff";
import { ClockFeed } from "./clock-feed";
import { Connection, type ConnectionEvents } from "./connection";
import { Liveness } from "./liveness";
import { Reporter } from "./reports";
import type { Feeder, Stage } from "./stage";
import { missingFeature } from "./support";
import { ConnectFailed, NoCommonProtocol, openTransport } from "./transport";
import { Watch } from "./watch";

const TICK_MS = 200;
/** A candidate that brings neither SETUP nor media by then is given up. */
const CANDIDATE_MS = 8000;

/** Problems that waiting doesn't cure, as far as anyone can tell. */
const lasting: ReadonlySet<Problem["code"]> = new Set([
  "bad-source",
  "insecure-page",
  "no-webtransport",
  "no-webcodecs",
  "protocol",
  "unauthorized",
  "codec-unsupported",
  "nothing-playable",
  "decoder",
]);

interface Candidate {
  readonly abort: AbortController;
  connection?: Connection;
  openedAt?: number;
}

export class Player implements ConnectionEvents {
  readonly #stage: Stage;
  readonly #post: (message: FromWorker) => void;
  readonly #backoff = new Backoff({ firstMs: 150, mostMs: 1500 });
  /** After failed handshakes, which Chromium answers with waits of its own that double each time. */
  readonly #handshakeBackoff = new Backoff({ firstMs: 300, mostMs: 15_000 });
  #liveness = new Liveness();
  #watch = new Watch();
  #source: Source | undefined;
  #broadcast = "";
  #requestedAt = 0;
  #joinMs: number | null = null;
  #active: Connection | undefined;
  /** Asks the active connection's relay. */
  #clockFeed: ClockFeed | undefined;
  #reporter: Reporter | undefined;
  /** The page is in the foreground. */
  #visible = true;
  #candidate: Candidate | undefined;
  #selections = new WeakMap<Connection, Selection>();
  /** Where GOAWAY or a redirect sent us; forgotten when it doesn't work out. */
  #detour: string | undefined;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #ticker: ReturnType<typeof setInterval> | undefined;
  #problem: Problem | null = null;
  #posted = "";

  constructor(makeStage: (player: Player) => Stage, post: (message: FromWorker) => void) {
    this.#post = post;
    this.#stage = makeStage(this);
  }

  /** `endpoint`: what `source` stands for, when that is known; looked up otherwise, and again later. */
  connect(source: Source, requestedAt: number, endpoint?: Endpoint): void {
    this.disconnect();
    this.#requestedAt = requestedAt;
    const problem = missingFeature() ?? this.#adopt(source);
    if (problem) return this.#setProblem(problem);
    this.#reporter = source.noReports ? undefined : new Reporter();
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
    this.#updateState();
    this.#attempt(endpoint);
  }

  disconnect(): void {
    clearInterval(this.#ticker);
    clearTimeout(this.#retryTimer);
    this.#dropCandidate();
    this.#active?.close();
    this.#active = undefined;
    this.#clockFeed = undefined;
    this.#reporter = undefined;
    this.#source = undefined;
    this.#detour = undefined;
    this.#problem = null;
    this.#joinMs = null;
    this.#backoff.reset();
    this.#handshakeBackoff.reset();
    this.#liveness = new Liveness();
    this.#watch = new Watch();
    this.#stage.restart();
  }

  /** A picture was painted, or sound came where there is no picture. */
  handleProgress(): void {
    this.#watch.handleProgress(performance.now());
    if (this.#joinMs === null) {
      this.#joinMs = Math.max(0, Date.now() - this.#requestedAt);
      this.#postStats();
      this.#announceAudio();
    }
    this.#problem = null;
    this.#updateState();
  }

  handleVisibility(visible: boolean): void {
    this.#visible = visible;
  }

  handleDecoderFault(reason: string): void {
    this.#setProblem(problems.decoder(reason));
  }

  // What connections report.

  handleReady(connection: Connection): void {
    // Beside an active connection that still delivers, the candidate has to show media first.
    if (this.#isCandidate(connection) && (!this.#active || this.#liveness.suspect)) this.#promote(connection);
  }

  handleSelection(connection: Connection, selection: Selection): void {
    this.#selections.set(connection, selection);
    if (connection === this.#active) this.#present(selection);
  }

  handleObject(
    connection: Connection,
    kind: MediaKind,
    from: Feeder,
    object: AssembledObject,
    timescale: bigint | undefined,
  ): void {
    if (this.#isCandidate(connection)) this.#promote(connection);
    if (connection !== this.#active) return;
    this.#backoff.reset();
    this.#handshakeBackoff.reset();
    this.#detour = undefined;
    this.#stage.handleObject(kind, from, object, timescale);
    if (kind === "audio" && !this.#stage.selection.video) this.handleProgress();
  }

  handleBytes(connection: Connection, kind: MediaKind, count: number): void {
    if (connection === this.#active) this.#stage.handleBytes(kind, count, performance.now());
  }

  handleNotFound(connection: Connection): void {
    if (connection === this.#active) this.#setProblem(problems.notFound(this.#broadcast));
  }

  handleEnded(connection: Connection): void {
    if (connection === this.#active) this.#setProblem(problems.ended(this.#broadcast));
  }

  handleUnplayable(connection: Connection, why: Unplayable): void {
    if (connection === this.#active) this.#setProblem(problems.unplayable(why));
  }

  handleBrokenCatalog(connection: Connection, reason: string): void {
    if (connection === this.#active) this.#setProblem(problems.brokenCatalog(reason));
  }

  handleRefused(connection: Connection, error: RequestError): void {
    if (connection !== this.#active) return;
    if (error.code === RequestErrorCode.UNAUTHORIZED) {
      return this.#setProblem(problems.unauthorized(this.#broadcast, error.reason));
    }
    if (error.redirect?.connectUri) return this.#moveTo(error.redirect.connectUri);
    if (error.code === RequestErrorCode.GOING_AWAY) return this.#moveTo("");
    this.#setProblem(
      problems.refused(this.#broadcast, error.reason || codeName(RequestErrorCode, error.code)),
    );
  }

  handleGoAway(connection: Connection, { newSessionUri }: GoAway): void {
    if (connection === this.#active) this.#moveTo(newSessionUri);
  }

  handleClosed(connection: Connection, _reason: Error): void {
    if (connection === this.#active) {
      this.#active = undefined;
      if (this.#candidate?.connection) this.#promote(this.#candidate.connection);
      else if (!this.#candidate) this.#retryLater();
    } else if (this.#isCandidate(connection)) {
      this.#candidate = undefined;
      this.#detour = undefined;
      if (!this.#active || this.#liveness.suspect) this.#retryLater();
    }
    this.#updateState();
  }

  // Getting connected.

  #adopt(source: Source): Problem | undefined {
    try {
      this.#broadcast = parseSource(source).broadcast;
      this.#source = source;
      return undefined;
    } catch (error) {
      return problems.badSource(source.src, error instanceof Error ? error.message : String(error));
    }
  }

  #attempt(endpoint?: Endpoint): void {
    const source = this.#source;
    if (!source || this.#candidate) return;
    clearTimeout(this.#retryTimer);
    const candidate: Candidate = { abort: new AbortController() };
    this.#candidate = candidate;
    this.#open(candidate, endpoint ?? this.#endpoint(source)).catch((error: unknown) => {
      if (this.#candidate === candidate) this.#handleAttemptFailed(error);
    });
  }

  async #open(candidate: Candidate, lookup: Endpoint | Promise<Endpoint>): Promise<void> {
    const endpoint = await lookup;
    const { signal } = candidate.abort;
    signal.throwIfAborted();
    const { host } = new URL(endpoint.url);
    const open = await openTransport(endpoint, signal).catch((error: unknown) => {
      // The address belongs to the words about it.
      throw new AttemptFailed(host, error);
    });
    candidate.connection = new Connection(open, host, this.#broadcast, () => this.#stage.patienceMs, this);
    candidate.openedAt = performance.now();
  }

  async #endpoint(source: Source): Promise<Endpoint> {
    const detour = this.#detour;
    return resolveEndpoint(detour === undefined ? source : { ...source, relay: detour });
  }

  #handleAttemptFailed(error: unknown): void {
    this.#candidate = undefined;
    this.#detour = undefined;
    const cause = error instanceof AttemptFailed ? error.cause : error;
    const host = error instanceof AttemptFailed ? error.host : "";
    if (cause instanceof NoCommonProtocol) return this.#setProblem(problems.protocol(host));
    if (!this.#active) this.#setProblem(problemOf(cause, host));
    if (!this.#active || this.#liveness.suspect) {
      this.#retryLater(cause instanceof ConnectFailed ? this.#handshakeBackoff : this.#backoff);
    }
  }

  #retryLater(backoff = this.#backoff): void {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#attempt(), backoff.next());
  }

  /** Another session, at `uri` or where we are; the active one serves until then. */
  #moveTo(uri: string): void {
    if (uri !== "") this.#detour = uri;
    this.#dropCandidate();
    this.#attempt();
  }

  #isCandidate(connection: Connection): boolean {
    return this.#candidate !== undefined && this.#candidate.connection === connection;
  }

  #promote(connection: Connection): void {
    this.#candidate = undefined;
    this.#active?.close();
    this.#active = connection;
    this.#clockFeed = new ClockFeed(connection, this.#broadcast, this.#stage.captureClock);
    this.#liveness = new Liveness();
    if (this.#problem?.code === "unreachable") this.#problem = null;
    const selection = this.#selections.get(connection);
    if (selection) this.#present(selection);
    this.#updateState();
  }

  #dropCandidate(): void {
    this.#candidate?.abort.abort();
    this.#candidate?.connection?.close();
    this.#candidate = undefined;
  }

  #present(selection: Selection): void {
    this.#stage.setSelection(selection);
    if (this.#problem && this.#problem.code !== "unreachable") this.#problem = null;
    // Opening an audio device keeps a small machine busy: the first picture comes first.
    if (this.#watch.started || !selection.video) this.#announceAudio();
    this.#updateState();
  }

  #announceAudio(): void {
    const { audio } = this.#stage.selection;
    if (!audio) return;
    const { samplerate = 48_000, channels = 2 } = audio;
    this.#post({ kind: "audio-format", sampleRate: samplerate, channels });
  }

  // Watching over it.

  #tick(): void {
    const now = performance.now();
    this.#stage.tick(now);
    this.#watch.tick(now);
    if (this.#active) this.#checkLiveness(this.#active, now);
    const { openedAt } = this.#candidate ?? {};
    if (openedAt !== undefined && now - openedAt > CANDIDATE_MS) {
      this.#dropCandidate();
      if (!this.#active || this.#liveness.suspect) this.#retryLater();
    }
    // Of other relays nothing is asked but media.
    if (this.#active?.isWeir) this.#clockFeed?.tick(now);
    this.#updateState();
    this.#postStats();
  }

  #checkLiveness(active: Connection, now: number): void {
    const action = this.#liveness.tick(active.lastBytesAt, now);
    if (action === "ping") {
      const liveness = this.#liveness;
      active.ping().catch(() => liveness.handleNothingToAsk(performance.now()));
    } else if (action === "replace") {
      this.#attempt();
    } else if (action === "revived") {
      this.#dropCandidate();
      clearTimeout(this.#retryTimer);
    }
  }

  get #state(): PlayerState {
    if (this.#problem && lasting.has(this.#problem.code)) return "failed";
    if (!this.#watch.started) return "connecting";
    if (!this.#active || this.#liveness.suspect) return "reconnecting";
    return this.#watch.frozen ? "stalled" : "playing";
  }

  #setProblem(problem: Problem): void {
    this.#problem = problem;
    this.#updateState();
  }

  #updateState(): void {
    const message = { kind: "state", state: this.#state, problem: this.#problem } as const;
    const posted = JSON.stringify(message);
    if (posted === this.#posted) return;
    this.#posted = posted;
    this.#post(message);
  }

  #postStats(): void {
    const now = performance.now();
    const { stats: figures, audio } = this.#stage.figures(now);
    const stats = {
      transport: this.#active?.transport ?? null,
      protocol: this.#active?.protocol ?? null,
      ...figures,
      stalls: this.#watch.stalls,
      stalledMs: Math.round(this.#watch.stalledMs(now)),
      joinMs: this.#joinMs,
    };
    this.#post({ kind: "stats", stats, audio });
    this.#reporter?.tick(this.#active, { ...stats, visible: this.#visible }, now);
  }
}

class AttemptFailed extends Error {
  readonly host: string;

  constructor(host: string, cause: unknown) {
    super(`connecting to ${host} failed`, { cause });
    this.host = host;
  }
}

function problemOf(cause: unknown, host: string): Problem {
  if (cause instanceof ConnectFailed) return problems.unreachable(host, cause.quick);
  if (cause instanceof PageServerSilent) return problems.noServer(cause.host);
  return problems.internal(cause instanceof Error ? cause.message : String(cause));
}
