import { describe, expect, test } from "vitest";
import { SessionError } from "../src/moqt/errors";
import {
  bytesProperty,
  findProperty,
  integerProperty,
  mandatoryProperty,
  type Property,
  readProperties,
  writeProperties,
} from "../src/moqt/properties";
import { hex, text } from "./support/hex";

describe("Key-Value-Pairs", () => {
  test("an even type holds an integer, an odd one bytes, types are deltas", () => {
    const block = hex("04 25 09 03 616263 01 00");
    expect(readProperties(block)).toEqual([
      { type: 4n, value: 37n },
      { type: 13n, value: text("abc") },
      { type: 14n, value: 0n },
    ]);
  });

  test("the draft's example object properties read as it says", () => {
    // Type 4 = 2186796243, then type 77 (delta 73) with 21 bytes.
    const value = text("traceID:123456-------");
    const [number, trace] = readProperties(
      writeProperties([
        { type: 77n, value },
        { type: 4n, value: 2_186_796_243n },
      ]),
    );
    expect(number).toEqual({ type: 4n, value: 2_186_796_243n });
    expect(trace).toEqual({ type: 77n, value });
  });

  test("what is written is read again, whatever order it was given in", () => {
    const properties: Property[] = [
      { type: 0x10n, value: 1_767_225_600_000_000n },
      { type: 0x0dn, value: hex("0164001f") },
      { type: 0x0dn, value: hex("") },
      { type: (1n << 64n) - 2n, value: (1n << 64n) - 1n },
    ];
    const sorted = [...properties].sort((a, b) => (a.type < b.type ? -1 : 1));
    expect(readProperties(writeProperties(properties)).map(({ type }) => type)).toEqual(
      sorted.map(({ type }) => type),
    );
  });

  test.each([
    ["a type without a value", "04"],
    ["bytes that are cut off", "0d 05 0102"],
    ["a length that is cut off", "0d"],
    ["a type above 2^64 - 1", "ffffffffffffffffff 00 02 00"],
    ["a value above 65,535 bytes", "0d c10000"],
  ])("refuses %s", (_, block) => {
    expect(() => readProperties(hex(block))).toThrow(SessionError);
  });
});

describe("looking properties up", () => {
  const immutable = writeProperties([
    { type: 0x10n, value: 5n },
    { type: 0x0dn, value: hex("aa") },
  ]);

  test("finds them inside Immutable Properties too, the mutable list first", () => {
    const properties: Property[] = [
      { type: 0x0bn, value: immutable },
      { type: 0x10n, value: 7n },
    ];
    expect(integerProperty(properties, 0x10)).toBe(7n);
    expect(bytesProperty(properties, 0x0d)).toEqual(hex("aa"));
    expect(findProperty(properties, 0x20)).toBeUndefined();
  });

  test("knows a Mandatory Track Property when it sees one", () => {
    expect(mandatoryProperty([{ type: 0x3fffn, value: hex("") }])).toBeUndefined();
    expect(mandatoryProperty([{ type: 0x4000n, value: 1n }])).toBe(0x4000n);
    expect(mandatoryProperty([{ type: 0x7fffn, value: hex("") }])).toBe(0x7fffn);
    expect(mandatoryProperty([{ type: 0x8000n, value: 1n }])).toBeUndefined();
  });
});
