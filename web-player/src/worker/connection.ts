/** One session with a relay, playing one broadcast: the catalog, then the tracks chosen from it. */

import type { AssembledObject, AssemblerOptions } from "../media/assembler";
import type { Catalog } from "../media/catalog";
import { chooseTracks, type MediaKind, type Selection, type Unplayable } from "../media/tracks";
import { RequestErrorCode } from "../moqt/errors";
import type { GoAway, RequestError } from "../moqt/model";
import { type FullTrackName, fullTrackName } from "../moqt/names";
import type { Publication, PublicationEvents } from "../moqt/publication";
import { Session, type TrackStatusAnswer } from "../moqt/session";
import { CatalogFeed } from "./catalog-feed";
import type { ClockSource } from "./clock-feed";
import { type ReceiverEvents, TrackReceiver } from "./receiver";
import type { ReportSession } from "./reports";
import type { Feeder } from "./stage";
import { supportsTrack } from "./support";
import type { OpenTransport } from "./transport";

declare const __VERSION__: string;

export interface ConnectionEvents {
  /** The relay speaks our protocol and answered. */
  handleReady(connection: Connection): void;
  /** What will be delivered from here on. */
  handleSelection(connection: Connection, selection: Selection): void;
  handleObject(
    connection: Connection,
    kind: MediaKind,
    from: Feeder,
    object: AssembledObject,
    timescale: bigint | undefined,
  ): void;
  handleBytes(connection: Connection, kind: MediaKind, count: number): void;
  /** No publisher is there; the connection goes on asking. */
  handleNotFound(connection: Connection): void;
  handleRefused(connection: Connection, error: RequestError): void;
  handleEnded(connection: Connection): void;
  handleUnplayable(connection: Connection, why: Unplayable): void;
  handleBrokenCatalog(connection: Connection, reason: string): void;
  handleGoAway(connection: Connection, goAway: GoAway): void;
  handleClosed(connection: Connection, reason: Error): void;
}

/** Lower goes first. */
const Priority = { catalog: 0, audio: 32, video: 128 } as const;
/** The relay holds the request and nobody publishes: say so after this long. */
const SILENT_CATALOG_MS = 1500;

interface Subscribed {
  readonly key: string;
  readonly receiver: TrackReceiver;
}

/** How our relays begin to name themselves. */
const WEIR = "weir-relay/";

export class Connection implements ReportSession, ClockSource {
  readonly host: string;
  readonly protocol: string;
  readonly transport = "webtransport";
  /** When bytes came last. */
  lastBytesAt: number;
  readonly #broadcast: string;
  readonly #events: ConnectionEvents;
  readonly #session: Session;
  readonly #tracks = new Map<MediaKind, Subscribed>();
  readonly #patienceMs: () => number;
  #catalogReceiver: TrackReceiver | undefined;
  #silentTimer: ReturnType<typeof setTimeout> | undefined;
  #choice: Promise<void> = Promise.resolve();
  #closed = false;
  #isWeir = false;

  /** Starts at once; events come later. `patienceMs`: how long a group may hold up the next. */
  constructor(
    { transport, codec }: OpenTransport,
    host: string,
    broadcast: string,
    patienceMs: () => number,
    events: ConnectionEvents,
  ) {
    this.host = host;
    this.protocol = codec.protocol;
    this.lastBytesAt = performance.now();
    this.#broadcast = broadcast;
    this.#events = events;
    this.#patienceMs = patienceMs;
    this.#session = new Session(transport, codec, `weir-player/${__VERSION__}`, {
      handleBytes: () => {
        this.lastBytesAt = performance.now();
      },
      handleSetup: ({ implementation }) => {
        this.#isWeir = implementation?.startsWith(WEIR) ?? false;
        events.handleReady(this);
      },
      handleGoAway: (goAway) => events.handleGoAway(this, goAway),
      handleClosed: (reason) => {
        this.#stop();
        events.handleClosed(this, reason);
      },
    });
    this.#subscribeCatalog();
  }

  /** The relay is one of ours, and said so. */
  get isWeir(): boolean {
    return this.#isWeir;
  }

  publish(track: FullTrackName, events: PublicationEvents): Publication {
    return this.#session.publish(track, events);
  }

  trackStatus(track: FullTrackName): Promise<TrackStatusAnswer | undefined> {
    return this.#session.trackStatus(track);
  }

  /** Asks for a sign of life; resolves when one comes. Rejects when there is nothing to ask with. */
  ping(): Promise<void> {
    const receivers = [this.#catalogReceiver, ...[...this.#tracks.values()].map(({ receiver }) => receiver)];
    const established = receivers.find((receiver) => receiver?.established);
    return established?.ping() ?? Promise.reject(new Error("no subscription is established"));
  }

  close(): void {
    this.#stop();
    this.#session.close();
  }

  #stop(): void {
    this.#closed = true;
    clearTimeout(this.#silentTimer);
    this.#catalogReceiver?.stop();
    for (const { receiver } of this.#tracks.values()) receiver.stop();
    this.#tracks.clear();
  }

  #subscribeCatalog(): void {
    const feed = new CatalogFeed({
      handleCatalog: (catalog) => {
        clearTimeout(this.#silentTimer);
        // One after the other: what is chosen depends on what the browser answers, which takes a moment.
        this.#choice = this.#choice.then(() => this.#choose(catalog));
      },
      handleBroken: (error) => this.#closed || this.#events.handleBrokenCatalog(this, error.message),
    });
    this.#silentTimer = setTimeout(() => this.#events.handleNotFound(this), SILENT_CATALOG_MS);
    this.#catalogReceiver = this.#receive("catalog", Priority.catalog, {
      // A new catalog counts at once, whatever became of the one before.
      assembler: { independent: false, layerWaitMs: () => 0, groupWaitMs: () => 0 },
      events: {
        handleObject: (object) => feed.handleObject(object),
        handleSubscribed: ({ trackProperties }) => feed.handleTrackProperties(trackProperties),
        handleRefused: (error) => {
          clearTimeout(this.#silentTimer);
          if (isAbsence(error)) this.#events.handleNotFound(this);
          else this.#events.handleRefused(this, error);
        },
      },
    });
  }

  async #choose(catalog: Catalog): Promise<void> {
    if (this.#closed) return;
    for (const note of catalog.notes) console.warn(`Weir: the catalog of ${this.#broadcast}: ${note}`);
    if (catalog.isComplete && catalog.tracks.length === 0) return this.#events.handleEnded(this);
    const choice = await chooseTracks(catalog, supportsTrack);
    if (this.#closed) return;
    if ("unplayable" in choice) return this.#events.handleUnplayable(this, choice.unplayable);
    this.#events.handleSelection(this, choice.selection);
    for (const kind of ["audio", "video"] as const) this.#follow(kind, choice.selection);
  }

  /** Subscribes to the chosen track, unless that is what is subscribed. */
  #follow(kind: MediaKind, selection: Selection): void {
    const track = selection[kind];
    const current = this.#tracks.get(kind);
    const namespace = track?.namespace ?? this.#broadcast;
    const key = track && `${namespace}\n${track.name}`;
    if (current && current.key === key) return;
    current?.receiver.stop();
    this.#tracks.delete(kind);
    if (!track || key === undefined) return;
    const feeder: Feeder = {};
    const receiver = this.#receive(
      track.name,
      Priority[kind],
      {
        assembler: {
          independent: kind === "audio",
          layerWaitMs: () => this.#patienceMs() / 2,
          groupWaitMs: this.#patienceMs,
        },
        events: {
          handleObject: (object, timescale) =>
            this.#events.handleObject(this, kind, feeder, object, timescale),
          handleBytes: (count) => this.#events.handleBytes(this, kind, count),
        },
      },
      namespace,
    );
    this.#tracks.set(kind, { key, receiver });
  }

  #receive(
    name: string,
    priority: number,
    { assembler, events }: { assembler: AssemblerOptions; events: Partial<ReceiverEvents> },
    namespace = this.#broadcast,
  ): TrackReceiver {
    const nothing = () => undefined;
    return new TrackReceiver(
      this.#session,
      { track: fullTrackName(namespace, name), priority, assembler },
      {
        handleObject: nothing,
        handleBytes: nothing,
        handleSubscribed: nothing,
        handleRefused: nothing,
        handleDone: nothing,
        ...events,
      },
    );
  }
}

/** Nobody publishes that (yet). */
function isAbsence({ code }: RequestError): boolean {
  return code === RequestErrorCode.DOES_NOT_EXIST || code === RequestErrorCode.TIMEOUT;
}
