/** Subgroup streams and object datagrams ("Data Streams and Datagrams"). */

import { ByteReader, ByteWriter, concat, EndOfBytes } from "../bytes";
import type { SubgroupParser } from "../codec";
import { protocolViolation } from "../errors";
import type { MoqtObject, ObjectDatagram, ObjectStatus, SubgroupHeader } from "../model";
import { type Property, readProperties } from "../properties";

/** Larger objects than this are refused: no frame is that big, and one object has to fit in memory. */
export const MAX_OBJECT_BYTES = 64 * 1024 * 1024;
/** Bound for all that precedes a payload; properties hold a codec configuration at most. */
const MAX_OBJECT_HEAD_BYTES = 256 * 1024;

const SubgroupBit = {
  PROPERTIES: 0x01,
  END_OF_GROUP: 0x08,
  SHAPE: 0x10,
  DEFAULT_PRIORITY: 0x20,
  FIRST_OBJECT: 0x40,
};
const SUBGROUP_ID_MODE = 0x06;
const SubgroupIdMode = { ZERO: 0, FIRST_OBJECT_ID: 1, EXPLICIT: 2 } as const;

const DatagramBit = {
  PROPERTIES: 0x01,
  END_OF_GROUP: 0x02,
  ZERO_OBJECT_ID: 0x04,
  DEFAULT_PRIORITY: 0x08,
  STATUS: 0x20,
} as const;
const PADDING_DATAGRAM = 0x132b3e29n;

const noProperties: readonly Property[] = [];
const noPayload = new Uint8Array(0);

/** SUBGROUP_HEADER types have the form 0b0XX1XXXX, without the reserved Subgroup ID mode. */
export function isSubgroupType(type: bigint): boolean {
  if (type > 0x7fn) return false;
  const bits = Number(type);
  return (bits & SubgroupBit.SHAPE) !== 0 && (bits & SUBGROUP_ID_MODE) !== SUBGROUP_ID_MODE;
}

function readStatus(input: ByteReader): ObjectStatus {
  const status = input.u64();
  switch (status) {
    case 0x0n:
      return "normal";
    case 0x3n:
      return "end-of-group";
    case 0x4n:
      return "end-of-track";
    default:
      throw protocolViolation(`Object Status 0x${status.toString(16)} does not exist`);
  }
}

function readPropertyBlock(input: ByteReader): readonly Property[] {
  const length = input.uint();
  if (length > MAX_OBJECT_HEAD_BYTES) throw protocolViolation(`Object Properties of ${length} bytes`);
  return length === 0 ? noProperties : readProperties(input.bytes(length));
}

function checkStatus(status: ObjectStatus, properties: readonly Property[]): void {
  if (status !== "normal" && properties.length > 0) {
    throw protocolViolation(`properties on an object with status ${status}`);
  }
}

interface ObjectHead {
  readonly object: number;
  readonly properties: readonly Property[];
  readonly status: ObjectStatus;
  readonly payloadBytes: number;
}

/** A subgroup stream from its type on. Holds at most one object that isn't whole yet. */
export class Subgroup implements SubgroupParser {
  #header: SubgroupHeader | undefined;
  #subgroupIsFirstObject = false;
  #previousObject: number | undefined;
  #ended = false;
  #head: ObjectHead | undefined;
  #chunks: Uint8Array[] = [];
  #buffered = 0;

  get header(): SubgroupHeader | undefined {
    return this.#header;
  }

  handleBytes(chunk: Uint8Array): void {
    if (chunk.byteLength === 0) return;
    this.#chunks.push(chunk);
    this.#buffered += chunk.byteLength;
    if (!this.#header) this.#header = this.#parse((input) => this.#readHeader(input));
  }

  pollObject(): MoqtObject | undefined {
    const head = this.#objectHead();
    if (!head || this.#buffered < head.payloadBytes) return undefined;
    this.#head = undefined;
    this.#previousObject = head.object;
    const { object, status, properties } = head;
    this.#ended = status !== "normal";
    return { object, status, properties, payload: this.#takePayload(head.payloadBytes) };
  }

  handleFin(): void {
    if (!this.#header) throw protocolViolation("a subgroup stream ended inside its header");
    if (this.#head || this.#buffered > 0) throw protocolViolation("a subgroup stream ended inside an object");
  }

  #readHeader(input: ByteReader): SubgroupHeader {
    const type = input.u64();
    if (!isSubgroupType(type)) throw protocolViolation(`SUBGROUP_HEADER of type 0x${type.toString(16)}`);
    const bits = Number(type);
    const trackAlias = input.u64();
    const group = input.u64();
    const mode = (bits & SUBGROUP_ID_MODE) >> 1;
    this.#subgroupIsFirstObject = mode === SubgroupIdMode.FIRST_OBJECT_ID;
    const subgroup =
      mode === SubgroupIdMode.EXPLICIT ? input.u64() : mode === SubgroupIdMode.ZERO ? 0n : undefined;
    const priority = bits & SubgroupBit.DEFAULT_PRIORITY ? undefined : input.u8();
    return {
      trackAlias,
      group,
      ...(subgroup !== undefined && { subgroup }),
      ...(priority !== undefined && { priority }),
      hasProperties: (bits & SubgroupBit.PROPERTIES) !== 0,
      endOfGroup: (bits & SubgroupBit.END_OF_GROUP) !== 0,
      firstObject: (bits & SubgroupBit.FIRST_OBJECT) !== 0,
    };
  }

  /** The fields before the next payload, once they are here. */
  #objectHead(): ObjectHead | undefined {
    const header = this.#header;
    if (!header || this.#head) return this.#head;
    if (this.#ended && this.#buffered > 0)
      throw protocolViolation("an object after the end of its group or track");
    this.#head = this.#parse((input) => this.#readObjectHead(input, header.hasProperties));
    if (this.#head && this.#subgroupIsFirstObject) {
      this.#header = { ...header, subgroup: BigInt(this.#head.object) };
      this.#subgroupIsFirstObject = false;
    }
    return this.#head;
  }

  #readObjectHead(input: ByteReader, hasProperties: boolean): ObjectHead {
    const delta = input.uint();
    const object = this.#previousObject === undefined ? delta : this.#previousObject + delta + 1;
    if (!Number.isSafeInteger(object)) throw protocolViolation("an Object ID above 2^53 - 1");
    const properties = hasProperties ? readPropertyBlock(input) : noProperties;
    const payloadBytes = input.uint();
    if (payloadBytes > MAX_OBJECT_BYTES) {
      throw protocolViolation(
        `an object of ${payloadBytes} bytes; this player takes ${MAX_OBJECT_BYTES} at most`,
      );
    }
    const status = payloadBytes === 0 ? readStatus(input) : "normal";
    checkStatus(status, properties);
    return { object, properties, status, payloadBytes };
  }

  /** Runs `read` on what is buffered; keeps the bytes when they don't suffice yet. */
  #parse<T>(read: (input: ByteReader) => T): T | undefined {
    // Most heads lie in the first chunk: join more of them only when one is cut.
    for (let wanted = 64; this.#buffered > 0; wanted *= 16) {
      const input = new ByteReader(this.#join(wanted));
      try {
        const value = read(input);
        this.#drop(input.offset);
        return value;
      } catch (error) {
        if (!(error instanceof EndOfBytes)) throw error;
        if (wanted < this.#buffered) continue;
        if (this.#buffered > MAX_OBJECT_HEAD_BYTES) throw protocolViolation("an object header without end");
        return undefined;
      }
    }
    return undefined;
  }

  /** Makes at least `wanted` bytes (or all there are) one contiguous piece at the front. */
  #join(wanted: number): Uint8Array {
    let pieces = 0;
    for (let length = 0; pieces < this.#chunks.length && length < wanted; pieces++) {
      length += this.#chunks[pieces]?.byteLength ?? 0;
    }
    const joined = concat(this.#chunks.slice(0, pieces));
    if (pieces > 1) this.#chunks.splice(0, pieces, joined);
    return joined;
  }

  #takePayload(length: number): Uint8Array {
    if (length === 0) return noPayload;
    const payload = this.#join(length).subarray(0, length);
    this.#drop(length);
    return payload;
  }

  #drop(length: number): void {
    const [first] = this.#chunks;
    if (!first) return;
    this.#buffered -= length;
    if (first.byteLength === length) this.#chunks.shift();
    else this.#chunks[0] = first.subarray(length);
  }
}

/** A whole group as one stream: one object, in subgroup 0, with the track's priority and no properties. */
export function encodeGroup(trackAlias: bigint, group: bigint, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const { SHAPE, END_OF_GROUP, DEFAULT_PRIORITY, FIRST_OBJECT } = SubgroupBit;
  const out = new ByteWriter().vi64(SHAPE | END_OF_GROUP | DEFAULT_PRIORITY | FIRST_OBJECT);
  out.vi64(trackAlias).vi64(group);
  out.vi64(0).lengthPrefixed(payload);
  // Without a payload there is a status instead.
  if (payload.byteLength === 0) out.vi64(0);
  return out.finish();
}

/** Undefined: a padding datagram, to be discarded. */
export function decodeDatagram(bytes: Uint8Array): ObjectDatagram | undefined {
  const input = new ByteReader(bytes);
  try {
    const type = input.u64();
    return type === PADDING_DATAGRAM ? undefined : readDatagram(type, input);
  } catch (error) {
    if (error instanceof EndOfBytes) throw protocolViolation("an object datagram is cut off");
    throw error;
  }
}

function readDatagram(type: bigint, input: ByteReader): ObjectDatagram {
  const bits = Number(type);
  const has = (bit: number) => (bits & bit) !== 0;
  const statusAndEnd = has(DatagramBit.STATUS) && has(DatagramBit.END_OF_GROUP);
  if (type > 0x2fn || (bits & ~0x2f) !== 0 || statusAndEnd) {
    throw protocolViolation(`a datagram of unknown type 0x${type.toString(16)}`);
  }
  const trackAlias = input.u64();
  const group = input.u64();
  const object = has(DatagramBit.ZERO_OBJECT_ID) ? 0 : input.uint();
  if (!has(DatagramBit.DEFAULT_PRIORITY)) input.u8();
  const properties = has(DatagramBit.PROPERTIES) ? readPropertyBlock(input) : noProperties;
  if (has(DatagramBit.PROPERTIES) && properties.length === 0) {
    throw protocolViolation("a datagram that announces properties and has none");
  }
  const status = has(DatagramBit.STATUS) ? readStatus(input) : "normal";
  checkStatus(status, properties);
  const payload = input.rest();
  if (has(DatagramBit.STATUS) && payload.byteLength > 0) {
    throw protocolViolation("a datagram with a status and a payload");
  }
  return {
    trackAlias,
    group,
    endOfGroup: has(DatagramBit.END_OF_GROUP),
    object: { object, status, properties, payload },
  };
}
