/**
 * Bytes in and out: fixed-width integers, and the draft's vi64 ("Variable-Length Integers"), whose
 * length is the number of leading one bits of the first byte, plus one.
 *
 * Numbers that are counted or indexed come as `number` (`uint`); identifiers that a peer may draw from
 * the full 64 bits come as `bigint` (`u64`).
 */

import { SessionCode, SessionError } from "./errors";

/** The bytes end before the value does: truncated, or not all here yet. */
export class EndOfBytes extends Error {
  constructor() {
    super("the bytes end before the value does");
    this.name = "EndOfBytes";
  }
}

/** A length or a count that nothing that follows could live up to. */
export class IntegerTooLarge extends SessionError {
  constructor(value: bigint) {
    super(
      SessionCode.PROTOCOL_VIOLATION,
      `integer ${value} is above 2^53 - 1, more than this player can count to`,
    );
    this.name = "IntegerTooLarge";
  }
}

const MAX_U64 = (1n << 64n) - 1n;

/** Encoded length of the vi64 that starts with `first`: 1 to 9 bytes. */
export function vi64Length(first: number): number {
  return first === 0xff ? 9 : Math.clz32(~(first << 24)) + 1;
}

/** Reads values off the front of a byte string; throws {@link EndOfBytes} when it runs out. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset: number;

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#bytes.byteLength - this.#offset;
  }

  u8(): number {
    const at = this.#take(1);
    return this.#view.getUint8(at);
  }

  u16(): number {
    const at = this.#take(2);
    return this.#view.getUint16(at);
  }

  /** A vi64 of any size. */
  u64(): bigint {
    const length = this.#peekLength();
    if (length <= 6) return BigInt(this.#short(length));
    const at = this.#take(length);
    // Longer than six bytes: the first byte holds at most one value bit.
    let value = length === 7 ? BigInt(this.#view.getUint8(at) & 1) : 0n;
    for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(this.#view.getUint8(at + i));
    return value;
  }

  /** A vi64 that has to be a safe integer: a length, a count, an object ID. */
  uint(): number {
    const length = this.#peekLength();
    if (length <= 6) return this.#short(length);
    const value = this.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new IntegerTooLarge(value);
    return Number(value);
  }

  /** The next `length` bytes, a view into the same memory. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** Everything that is left. */
  rest(): Uint8Array {
    return this.bytes(this.remaining);
  }

  #peekLength(): number {
    if (this.remaining < 1) throw new EndOfBytes();
    return vi64Length(this.#view.getUint8(this.#offset));
  }

  #short(length: number): number {
    const at = this.#take(length);
    let value = this.#view.getUint8(at) & (0xff >> length);
    for (let i = 1; i < length; i++) value = value * 256 + this.#view.getUint8(at + i);
    return value;
  }

  #take(length: number): number {
    if (this.remaining < length) throw new EndOfBytes();
    const at = this.#offset;
    this.#offset += length;
    return at;
  }
}

/** Builds a byte string. */
export class ByteWriter {
  #bytes = new Uint8Array(64);
  #length = 0;

  u8(value: number): this {
    const at = this.#grow(1);
    this.#bytes[at] = value;
    return this;
  }

  u16(value: number): this {
    const at = this.#grow(2);
    this.#bytes[at] = value >> 8;
    this.#bytes[at + 1] = value;
    return this;
  }

  /** A vi64 in its shortest form. */
  vi64(value: number | bigint): this {
    const wide = BigInt(value);
    if (wide < 0n || wide > MAX_U64) throw new RangeError(`${value} does not fit 64 unsigned bits`);
    let length = 1;
    while (length < 9 && wide >= 1n << BigInt(7 * length)) length++;
    const at = this.#grow(length);
    let rest = wide;
    for (let i = length - 1; i >= 0; i--) {
      this.#bytes[at + i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
    const leadingOnes = length === 9 ? 0xff : (0xff << (9 - length)) & 0xff;
    this.#bytes[at] = (this.#bytes[at] ?? 0) | leadingOnes;
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#grow(value.byteLength);
    this.#bytes.set(value, at);
    return this;
  }

  /** Length as vi64, then the bytes. */
  lengthPrefixed(value: Uint8Array): this {
    return this.vi64(value.byteLength).bytes(value);
  }

  get length(): number {
    return this.#length;
  }

  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }

  #grow(by: number): number {
    const at = this.#length;
    this.#length += by;
    if (this.#length > this.#bytes.byteLength) {
      const larger = new Uint8Array(Math.max(this.#length, this.#bytes.byteLength * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    return at;
  }
}

/** Joins chunks into one byte string; a single chunk is returned as it is. */
export function concat(chunks: readonly Uint8Array[]): Uint8Array {
  const [only] = chunks;
  if (only && chunks.length === 1) return only;
  const joined = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0));
  let at = 0;
  for (const chunk of chunks) {
    joined.set(chunk, at);
    at += chunk.byteLength;
  }
  return joined;
}

export const utf8 = {
  encode: (text: string): Uint8Array => new TextEncoder().encode(text),
  /** Never throws: bytes that are not UTF-8 become U+FFFD. */
  decode: (bytes: Uint8Array): string => new TextDecoder().decode(bytes),
};
