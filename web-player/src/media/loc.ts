/** LOC: an object's payload is the inside of a WebCodecs chunk, its properties say when and with what. */

import { ByteReader, EndOfBytes } from "../moqt/bytes";
import { bytesProperty, integerProperty, type Property } from "../moqt/properties";

const LocProperty = {
  /** TIMESTAMP, as registered by LOC-04; 0x06 is what the transport draft's table and older peers say. */
  TIMESTAMP: 0x10,
  TIMESTAMP_EARLIER: 0x06,
  TIMESCALE: 0x08,
  VIDEO_CONFIG: 0x0d,
  AUDIO_CONFIG: 0x0f,
  /** MSF_INITIALIZATION. */
  INITIALIZATION: 0x79,
} as const;

const MICROSECONDS = 1_000_000n;

export interface LocHeader {
  /** Microseconds; since the Unix epoch when `wallClock`. Absent: the object doesn't say. */
  readonly timestamp?: number;
  /** The timestamp is the capture's wall-clock time, so latency can be told. */
  readonly wallClock: boolean;
  /** The decoder's `description`, when it comes with this object. */
  readonly config?: Uint8Array;
}

/** `trackTimescale`: the Track Property or catalog field, which an object's own overrides. */
export function readLocHeader(properties: readonly Property[], trackTimescale?: bigint): LocHeader {
  const stamp =
    integerProperty(properties, LocProperty.TIMESTAMP) ??
    integerProperty(properties, LocProperty.TIMESTAMP_EARLIER);
  const timescale = integerProperty(properties, LocProperty.TIMESCALE) ?? trackTimescale;
  const config =
    bytesProperty(properties, LocProperty.VIDEO_CONFIG) ??
    bytesProperty(properties, LocProperty.AUDIO_CONFIG) ??
    bytesProperty(properties, LocProperty.INITIALIZATION);
  return {
    ...(stamp !== undefined && { timestamp: toMicroseconds(stamp, timescale) }),
    wallClock: timescale === undefined,
    ...(config && { config }),
  };
}

/** The timescale in a track's own properties. */
export function trackTimescale(properties: readonly Property[]): bigint | undefined {
  return integerProperty(properties, LocProperty.TIMESCALE);
}

function toMicroseconds(stamp: bigint, timescale: bigint | undefined): number {
  if (timescale === undefined || timescale === 0n || timescale === MICROSECONDS) return Number(stamp);
  return Number((stamp * MICROSECONDS) / timescale);
}

/** Whether an H.264 or HEVC payload is framed by start codes (no `description`) rather than lengths. */
export function startsWithStartCode(payload: Uint8Array): boolean {
  try {
    const head = new ByteReader(payload);
    if (head.u16() !== 0) return false;
    const third = head.u8();
    return third === 1 || (third === 0 && head.u8() === 1);
  } catch (error) {
    if (error instanceof EndOfBytes) return false;
    throw error;
  }
}
