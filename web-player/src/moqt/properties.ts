/**
 * Key-Value-Pairs with delta-coded types ("Key-Value-Pair Structure"): an even type holds an integer, an
 * odd one bytes. Track Properties, Object Properties and Setup Options are all lists of these.
 */

import { ByteReader, ByteWriter, EndOfBytes } from "./bytes";
import { protocolViolation } from "./errors";

export interface Property {
  readonly type: bigint;
  readonly value: bigint | Uint8Array;
}

const MAX_U64 = (1n << 64n) - 1n;
const MAX_VALUE_BYTES = 0xffff;
const IMMUTABLE_PROPERTIES = 0x0bn;

/** Mandatory Track Properties: a track that carries one we don't know must not be processed. */
const MANDATORY_FIRST = 0x4000n;
const MANDATORY_LAST = 0x7fffn;

/** Parses a whole block of Key-Value-Pairs; its length is known from outside. */
export function readProperties(block: Uint8Array): Property[] {
  const input = new ByteReader(block);
  const properties: Property[] = [];
  let type = 0n;
  try {
    while (input.remaining > 0) {
      type += input.u64();
      if (type > MAX_U64) throw protocolViolation("a Key-Value-Pair Type above 2^64 - 1");
      if (type % 2n === 0n) {
        properties.push({ type, value: input.u64() });
        continue;
      }
      const length = input.uint();
      if (length > MAX_VALUE_BYTES) {
        throw protocolViolation(`a Key-Value-Pair of ${length} bytes; ${MAX_VALUE_BYTES} is the most`);
      }
      properties.push({ type, value: input.bytes(length) });
    }
  } catch (error) {
    if (error instanceof EndOfBytes) throw protocolViolation("a Key-Value-Pair is cut off");
    throw error;
  }
  return properties;
}

/** Encodes in ascending order of type, as the deltas ask. */
export function writeProperties(properties: readonly Property[]): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter();
  let previous = 0n;
  const ascending = [...properties].sort((a, b) => (a.type < b.type ? -1 : a.type > b.type ? 1 : 0));
  for (const { type, value } of ascending) {
    out.vi64(type - previous);
    previous = type;
    if (typeof value === "bigint") out.vi64(value);
    else out.lengthPrefixed(value);
  }
  return out.finish();
}

/** Looks a property up, in the mutable list first, then inside Immutable Properties. */
export function findProperty(properties: readonly Property[], type: number): Property | undefined {
  const wanted = BigInt(type);
  const plain = properties.find((property) => property.type === wanted);
  if (plain) return plain;
  const immutable = properties.find((property) => property.type === IMMUTABLE_PROPERTIES);
  if (!(immutable?.value instanceof Uint8Array)) return undefined;
  return readProperties(immutable.value).find((property) => property.type === wanted);
}

/** Every integer under an even `type`, the immutable ones among them. */
export function integerProperties(properties: readonly Property[], type: number): readonly bigint[] {
  const wanted = BigInt(type);
  return properties.flatMap((property) => {
    if (property.type === wanted && typeof property.value === "bigint") return [property.value];
    const nested = property.type === IMMUTABLE_PROPERTIES && property.value instanceof Uint8Array;
    if (!nested) return [];
    return readProperties(property.value).flatMap(({ type: inner, value }) =>
      inner === wanted && typeof value === "bigint" ? [value] : [],
    );
  });
}

/** The integer under an even `type`. */
export function integerProperty(properties: readonly Property[], type: number): bigint | undefined {
  const value = findProperty(properties, type)?.value;
  return typeof value === "bigint" ? value : undefined;
}

/** The bytes under an odd `type`. */
export function bytesProperty(properties: readonly Property[], type: number): Uint8Array | undefined {
  const value = findProperty(properties, type)?.value;
  return value instanceof Uint8Array ? value : undefined;
}

/** The first Mandatory Track Property, none of which this player knows. */
export function mandatoryProperty(properties: readonly Property[]): bigint | undefined {
  return properties.find(({ type }) => type >= MANDATORY_FIRST && type <= MANDATORY_LAST)?.type;
}
