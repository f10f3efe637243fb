/** Bytes from hex digits; spaces and line breaks are for the reader. */
export function hex(digits: string): Uint8Array<ArrayBuffer> {
  const packed = digits.replace(/\s/g, "");
  return Uint8Array.from({ length: packed.length / 2 }, (_, i) =>
    Number.parseInt(packed.slice(2 * i, 2 * i + 2), 16),
  );
}

export function text(value: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(new TextEncoder().encode(value));
}

/** Hex digits of bytes. */
export function unhex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
