/** Track Namespaces, Track Names, and how a broadcast's name maps onto them ("Track Naming"). */

import { type ByteReader, type ByteWriter, utf8 } from "./bytes";
import { protocolViolation } from "./errors";

/** An ordered set of 0 to 32 non-empty byte fields. */
export type TrackNamespace = readonly Uint8Array[];

export interface FullTrackName {
  readonly namespace: TrackNamespace;
  readonly name: Uint8Array;
}

const MAX_FIELDS = 32;
const MAX_FULL_NAME_BYTES = 4096;

function namespaceBytes(namespace: TrackNamespace): number {
  return namespace.reduce((sum, field) => sum + field.byteLength, 0);
}

/** A broadcast's name is a namespace with one field per `/`: `live/cam1` → (live, cam1). */
export function namespaceOf(broadcast: string): TrackNamespace {
  const fields = broadcast.split("/").filter((field) => field !== "");
  if (fields.length === 0)
    throw new RangeError("the broadcast has no name: expected something like live/cam1");
  if (fields.length > MAX_FIELDS) {
    throw new RangeError(
      `the broadcast name has ${fields.length} parts; a namespace holds at most ${MAX_FIELDS}`,
    );
  }
  const namespace = fields.map((field) => utf8.encode(field));
  if (namespaceBytes(namespace) > MAX_FULL_NAME_BYTES) {
    throw new RangeError(`the broadcast name is longer than ${MAX_FULL_NAME_BYTES} bytes`);
  }
  return namespace;
}

export function fullTrackName(broadcast: string, track: string): FullTrackName {
  return { namespace: namespaceOf(broadcast), name: utf8.encode(track) };
}

/** For messages to people: `live/cam1/video`. */
export function displayName({ namespace, name }: FullTrackName): string {
  return [...namespace, name].map((part) => utf8.decode(part)).join("/");
}

export function writeNamespace(out: ByteWriter, namespace: TrackNamespace): void {
  out.vi64(namespace.length);
  for (const field of namespace) out.lengthPrefixed(field);
}

export function readNamespace(input: ByteReader): TrackNamespace {
  const count = input.uint();
  if (count > MAX_FIELDS)
    throw protocolViolation(`a Track Namespace with ${count} fields; ${MAX_FIELDS} is the most`);
  const namespace: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const length = input.uint();
    if (length === 0) throw protocolViolation("a Track Namespace Field without a byte in it");
    namespace.push(input.bytes(length));
  }
  if (namespaceBytes(namespace) > MAX_FULL_NAME_BYTES) {
    throw protocolViolation(`a Track Namespace above ${MAX_FULL_NAME_BYTES} bytes`);
  }
  return namespace;
}

export function writeFullTrackName(out: ByteWriter, track: FullTrackName): void {
  writeNamespace(out, track.namespace);
  out.lengthPrefixed(track.name);
}

export function readFullTrackName(input: ByteReader): FullTrackName {
  const namespace = readNamespace(input);
  const name = input.bytes(input.uint());
  if (namespaceBytes(namespace) + name.byteLength > MAX_FULL_NAME_BYTES) {
    throw protocolViolation(`a Full Track Name above ${MAX_FULL_NAME_BYTES} bytes`);
  }
  return { namespace, name };
}
