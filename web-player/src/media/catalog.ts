/**
 * The `catalog` track: MSF JSON, parsed into tracks that are known to be well formed. Unknown fields are
 * ignored; a malformed track is left out and named, a malformed catalog throws {@link CatalogError}.
 */

export class CatalogError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "CatalogError";
  }
}

export interface CatalogTrack {
  readonly name: string;
  /** Absent: the catalog's own namespace. */
  readonly namespace?: string;
  readonly packaging: string;
  readonly role: string;
  readonly isLive: boolean;
  /** A WebCodecs codec string. */
  readonly codec?: string;
  readonly width?: number;
  readonly height?: number;
  readonly framerate?: number;
  /** Bits per second. */
  readonly bitrate?: number;
  readonly samplerate?: number;
  readonly channels?: number;
  readonly renderGroup?: number;
  readonly altGroup?: number;
  /** Milliseconds. */
  readonly targetLatency?: number;
  readonly language?: string;
  readonly label?: string;
  /** Decoder configuration given in the catalog itself. */
  readonly initData?: Uint8Array;
}

export interface Catalog {
  readonly tracks: readonly CatalogTrack[];
  /** The broadcast is over: nothing will be published any more. */
  readonly isComplete: boolean;
  /** What was left out, in words, for the log. */
  readonly notes: readonly string[];
}

type Json = Readonly<Record<string, unknown>>;

/** A catalog is small; a megabyte of JSON is an attack or a mistake. */
const MAX_CATALOG_BYTES = 1024 * 1024;
const MAX_TRACKS = 256;

/** Follows a catalog track: whole catalogs and the deltas after them. */
export class CatalogReader {
  #tracks: Json[] | undefined;
  #initData: readonly Json[] = [];

  /** One object's payload; returns the catalog as it is now. */
  handleObject(payload: Uint8Array): Catalog {
    const root = parseRoot(payload);
    if (Array.isArray(root.deltaUpdate)) {
      if (!this.#tracks) throw new CatalogError("the catalog starts with a delta update");
      this.#tracks = applyDelta(this.#tracks, root.deltaUpdate);
    } else {
      checkVersion(root.version);
      this.#tracks = listOfTracks(root.tracks);
      this.#initData = Array.isArray(root.initDataList) ? root.initDataList.filter(isObject) : [];
    }
    return this.#snapshot(root.isComplete === true);
  }

  #snapshot(isComplete: boolean): Catalog {
    const tracks: CatalogTrack[] = [];
    const notes: string[] = [];
    for (const raw of this.#tracks ?? []) {
      const track = readTrack(raw, this.#initData);
      if (typeof track === "string") notes.push(track);
      else tracks.push(track);
    }
    return { tracks, isComplete, notes };
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseRoot(payload: Uint8Array): Json {
  if (payload.byteLength > MAX_CATALOG_BYTES) {
    throw new CatalogError(`the catalog has ${payload.byteLength} bytes; ${MAX_CATALOG_BYTES} is the most`);
  }
  let root: unknown;
  try {
    root = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
  } catch (error) {
    throw new CatalogError(`the catalog is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  if (!isObject(root)) throw new CatalogError("the catalog is not a JSON object");
  return root;
}

/** "draft-01" or "draft-00", or a bare number as -00 publishers send. */
function checkVersion(version: unknown): void {
  const known = version === "draft-01" || version === "draft-00" || version === 1 || version === "1";
  if (!known)
    throw new CatalogError(
      `the catalog's version is ${JSON.stringify(version)}; this player reads "draft-01"`,
    );
}

function listOfTracks(tracks: unknown): Json[] {
  if (!Array.isArray(tracks)) throw new CatalogError('the catalog has no list of "tracks"');
  if (tracks.length > MAX_TRACKS)
    throw new CatalogError(`the catalog lists ${tracks.length} tracks; ${MAX_TRACKS} is the most`);
  return tracks.filter(isObject);
}

function sameTrack(track: Json, name: unknown, namespace: unknown): boolean {
  return track.name === name && (namespace === undefined || track.namespace === namespace);
}

function applyDelta(before: Json[], operations: readonly unknown[]): Json[] {
  let tracks = before;
  for (const operation of operations) {
    if (!isObject(operation)) throw new CatalogError("a catalog delta operation is not an object");
    for (const change of listOfTracks(operation.tracks)) tracks = applyChange(tracks, operation.op, change);
  }
  return listOfTracks(tracks);
}

function applyChange(tracks: Json[], op: unknown, change: Json): Json[] {
  // The parent is named by parentName; the draft's own example of "update" uses name.
  const { parentName = change.name, parentNamespace = change.namespace, ...fields } = change;
  switch (op) {
    case "add":
      return [...tracks.filter((track) => !sameTrack(track, change.name, change.namespace)), change];
    case "remove":
      return tracks.filter((track) => !sameTrack(track, change.name, change.namespace));
    case "update":
      return tracks.map((track) =>
        sameTrack(track, parentName, parentNamespace) ? { ...track, ...fields } : track,
      );
    case "clone": {
      const parent = tracks.find((track) => sameTrack(track, parentName, change.parentNamespace));
      if (!parent)
        throw new CatalogError(`the catalog clones the unknown track ${JSON.stringify(parentName)}`);
      return [...tracks, { ...parent, ...fields }];
    }
    default:
      throw new CatalogError(`unknown catalog delta operation ${JSON.stringify(op)}`);
  }
}

/** The track, or why it is left out. */
function readTrack(raw: Json, initDataList: readonly Json[]): CatalogTrack | string {
  const name = text(raw.name);
  if (name === undefined || name === "") return "a track without a name";
  const packaging = text(raw.packaging);
  if (packaging === undefined) return `track "${name}" doesn't say its packaging`;
  const initData = inlineInitData(raw.initRef, initDataList);
  if (typeof initData === "string") return `track "${name}": ${initData}`;
  return {
    name,
    packaging,
    role: text(raw.role) ?? guessRole(raw),
    isLive: raw.isLive !== false,
    ...optional("namespace", text(raw.namespace)),
    ...optional("codec", text(raw.codec)),
    ...optional("width", positive(raw.width)),
    ...optional("height", positive(raw.height)),
    ...optional("framerate", positive(raw.framerate)),
    ...optional("bitrate", positive(raw.bitrate)),
    ...optional("samplerate", positive(raw.samplerate)),
    ...optional("channels", positive(Number(raw.channelConfig))),
    ...optional("renderGroup", finite(raw.renderGroup)),
    ...optional("altGroup", finite(raw.altGroup)),
    ...optional("targetLatency", positive(raw.targetLatency)),
    ...optional("language", text(raw.lang)),
    ...optional("label", text(raw.label)),
    ...optional("initData", initData),
  };
}

function guessRole(raw: Json): string {
  if (raw.width !== undefined || raw.framerate !== undefined) return "video";
  return raw.samplerate !== undefined ? "audio" : "data";
}

/** The bytes an initRef points at when they stand in the catalog; a string says what is wrong. */
function inlineInitData(reference: unknown, list: readonly Json[]): Uint8Array | string | undefined {
  if (reference === undefined) return undefined;
  const entry = list.find(({ id }) => id === reference);
  if (!entry) return `its initRef ${JSON.stringify(reference)} points at nothing`;
  // Other types travel as properties, where the objects are read.
  if (entry.type !== "inline") return undefined;
  try {
    return Uint8Array.from(atob(text(entry.data) ?? ""), (character) => character.charCodeAt(0));
  } catch {
    return "its initialization data is not base64";
  }
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function finite(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function positive(value: unknown): number | undefined {
  const number = finite(value);
  return number !== undefined && number > 0 ? number : undefined;
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]: V });
}
