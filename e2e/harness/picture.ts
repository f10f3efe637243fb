/**
 * The test picture: two lines of 64 black or white cells across the top, line 1 the capture time in Unix
 * microseconds, line 2 the frame number (48 bits) and its CRC-16/CCITT-FALSE, most significant bit first.
 */

export const CELLS = 64;
export const LINES = 2;
/** A cell's height is the picture's width divided by this. */
export const CELL_HEIGHT_DIVISOR = 40;

const FRAME_BYTES = 6;

export interface Marks {
  /** Unix microseconds. */
  captured: number;
  frame: number;
}

export function crc16(bytes: Uint8Array): number {
  let crc = 0xffff;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
  }
  return crc;
}

/** The cells of both lines, one byte each: 0 is black, 255 is white. */
export function drawMarks({ captured, frame }: Marks): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(16));
  bytes.setBigUint64(0, BigInt(Math.round(captured)));
  bytes.setBigUint64(8, BigInt(frame) << 16n);
  bytes.setUint16(14, crc16(new Uint8Array(bytes.buffer, 8, FRAME_BYTES)));
  return Uint8Array.from({ length: CELLS * LINES }, (_, cell) =>
    bytes.getUint8(cell >> 3) & (0x80 >> (cell & 7)) ? 255 : 0,
  );
}

/** Reads what `drawMarks` drew; undefined where there is no such picture. */
export function readMarks(brightness: ArrayLike<number>): Marks | undefined {
  if (brightness.length !== CELLS * LINES) return undefined;
  const bytes = new DataView(new ArrayBuffer(16));
  for (let cell = 0; cell < CELLS * LINES; cell++) {
    if ((brightness[cell] ?? 0) < 128) continue;
    bytes.setUint8(cell >> 3, bytes.getUint8(cell >> 3) | (0x80 >> (cell & 7)));
  }
  if (crc16(new Uint8Array(bytes.buffer, 8, FRAME_BYTES)) !== bytes.getUint16(14)) return undefined;
  return { captured: Number(bytes.getBigUint64(0)), frame: Number(bytes.getBigUint64(8) >> 16n) };
}
