import { describe, expect, test } from "vitest";
import { ByteReader, ByteWriter, concat, EndOfBytes, IntegerTooLarge, vi64Length } from "../src/moqt/bytes";
import { hex } from "./support/hex";

// The table "Example Integer Encodings" of the draft.
const examples: readonly (readonly [string, bigint])[] = [
  ["25", 37n],
  ["8025", 37n],
  ["bbbd", 15_293n],
  ["ed7f3e7d", 226_442_877n],
  ["faa1a0e403d8", 2_893_212_287_960n],
  ["fc8998abc66bc0", 151_288_809_941_952n],
  ["fefa318fa8e3ca11", 70_423_237_261_249_041n],
  ["ffffffffffffffffff", 18_446_744_073_709_551_615n],
];

describe("vi64", () => {
  test.each(examples)("decodes the draft's example %s", (bytes, value) => {
    const reader = new ByteReader(hex(bytes));
    expect(reader.u64()).toBe(value);
    expect(reader.remaining).toBe(0);
  });

  test.each(examples.filter(([bytes]) => bytes !== "8025"))(
    "encodes the draft's example %s",
    (bytes, value) => {
      expect(new ByteWriter().vi64(value).finish()).toEqual(hex(bytes));
    },
  );

  test("uses the shortest form on both sides of every length's limit", () => {
    for (let length = 1; length <= 8; length++) {
      const most = (1n << BigInt(7 * length)) - 1n;
      for (const [value, bytes] of [
        [most, length],
        [most + 1n, length + 1],
      ] as const) {
        const encoded = new ByteWriter().vi64(value).finish();
        expect(encoded.byteLength).toBe(bytes);
        expect(vi64Length(encoded[0] ?? 0)).toBe(bytes);
        expect(new ByteReader(encoded).u64()).toBe(value);
      }
    }
  });

  test("reads the same number as an integer while it is safe, and refuses beyond", () => {
    const safe = BigInt(Number.MAX_SAFE_INTEGER);
    expect(new ByteReader(new ByteWriter().vi64(safe).finish()).uint()).toBe(Number.MAX_SAFE_INTEGER);
    const unsafe = new ByteReader(new ByteWriter().vi64(safe + 1n).finish());
    expect(() => unsafe.uint()).toThrow(IntegerTooLarge);
  });

  test.each(examples)("notices that %s is cut off", (bytes) => {
    const whole = hex(bytes);
    for (let length = 0; length < whole.byteLength; length++) {
      expect(() => new ByteReader(whole.subarray(0, length)).u64()).toThrow(EndOfBytes);
    }
  });

  test("refuses to encode what 64 unsigned bits can't hold", () => {
    expect(() => new ByteWriter().vi64(-1)).toThrow(RangeError);
    expect(() => new ByteWriter().vi64(1n << 64n)).toThrow(RangeError);
  });
});

test("a reader gives views into the same memory, and never past the end", () => {
  const memory = hex("0102030405");
  const reader = new ByteReader(memory, 1);
  expect(reader.u16()).toBe(0x0203);
  expect(reader.bytes(2).buffer).toBe(memory.buffer);
  expect(() => reader.u8()).toThrow(EndOfBytes);
});

test("joining one chunk copies nothing", () => {
  const only = hex("0102");
  expect(concat([only])).toBe(only);
  expect(concat([hex("01"), hex(""), hex("0203")])).toEqual(hex("010203"));
});
