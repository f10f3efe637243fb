import { expect, test } from "vitest";
import { readLocHeader, startsWithStartCode, trackTimescale } from "../src/media/loc";
import { type Property, writeProperties } from "../src/moqt/properties";
import { hex } from "./support/hex";

const captured = 1_767_225_600_123_456n;

test("a timestamp without timescale is wall-clock microseconds, under the old number too", () => {
  for (const type of [0x10n, 0x06n]) {
    expect(readLocHeader([{ type, value: captured }])).toEqual({
      timestamp: Number(captured),
      wallClock: true,
    });
  }
});

test("a timescale makes it media time, the object's own before the track's", () => {
  const stamp: Property = { type: 0x10n, value: 90_000n };
  expect(readLocHeader([{ type: 0x08n, value: 90_000n }, stamp], 1000n)).toMatchObject({
    timestamp: 1_000_000,
    wallClock: false,
  });
  expect(readLocHeader([stamp], 1000n)).toMatchObject({ timestamp: 90_000_000, wallClock: false });
  expect(readLocHeader([stamp], 0n)).toMatchObject({ timestamp: 90_000 });
  expect(trackTimescale([{ type: 0x08n, value: 48_000n }])).toBe(48_000n);
});

test("configurations are found, also inside Immutable Properties", () => {
  const inside = writeProperties([
    { type: 0x0dn, value: hex("0164") },
    { type: 0x10n, value: 5n },
  ]);
  expect(readLocHeader([{ type: 0x0bn, value: inside }])).toMatchObject({
    timestamp: 5,
    config: hex("0164"),
  });
  expect(readLocHeader([{ type: 0x0fn, value: hex("1190") }]).config).toEqual(hex("1190"));
  expect(readLocHeader([])).toEqual({ wallClock: true });
});

test.each([
  ["00000001 67", true],
  ["000001 67", true],
  ["0000000a 67", false],
  ["000001", true],
  ["0000", false],
  ["", false],
])("start codes at the front of %s: %s", (payload, expected) => {
  expect(startsWithStartCode(hex(payload))).toBe(expected);
});
