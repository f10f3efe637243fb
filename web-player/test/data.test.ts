import { describe, expect, test } from "vitest";
import { ByteWriter } from "../src/moqt/bytes";
import { draft18 } from "../src/moqt/draft18";
import { SessionError } from "../src/moqt/errors";
import type { MoqtObject } from "../src/moqt/model";
import { writeProperties } from "../src/moqt/properties";
import { hex, text } from "./support/hex";
import { seeded } from "./support/random";

/** Everything that comes out of `bytes` when they arrive in pieces of the given lengths. */
function parse(bytes: Uint8Array, pieces: () => number = () => bytes.byteLength) {
  const parser = draft18.subgroupParser();
  const objects: MoqtObject[] = [];
  for (let at = 0; at < bytes.byteLength; ) {
    const length = pieces();
    parser.handleBytes(bytes.slice(at, at + length));
    at += length;
    for (let object = parser.pollObject(); object; object = parser.pollObject()) objects.push(object);
  }
  return { parser, objects };
}

const plain = (object: number, payload: string): MoqtObject => ({
  object,
  status: "normal",
  properties: [],
  payload: text(payload),
});

describe("subgroup streams", () => {
  test("the draft's first example: two objects, no properties", () => {
    const { parser, objects } = parse(hex("14 02 00 00 00  00 04 61626364  00 04 65666768"));
    expect(parser.header).toEqual({
      trackAlias: 2n,
      group: 0n,
      subgroup: 0n,
      priority: 0,
      hasProperties: false,
      endOfGroup: false,
      firstObject: false,
    });
    expect(objects).toEqual([plain(0, "abcd"), plain(1, "efgh")]);
    expect(() => parser.handleFin()).not.toThrow();
  });

  test("the draft's second example: properties on the first object only", () => {
    const properties = writeProperties([
      { type: 4n, value: 2_186_796_243n },
      { type: 77n, value: text("traceID:123456") },
    ]);
    const bytes = new ByteWriter()
      .bytes(hex("35 02 00 00"))
      .bytes(hex("00"))
      .lengthPrefixed(properties)
      .bytes(hex("04 61626364 00 00 04 65666768"))
      .finish();
    const { parser, objects } = parse(bytes);
    expect(parser.header).not.toHaveProperty("priority");
    expect(objects.map(({ properties: found }) => found.length)).toEqual([2, 0]);
    expect(objects.map(({ object }) => object)).toEqual([0, 1]);
  });

  test("the subgroup may be named by its first object", () => {
    const { parser, objects } = parse(hex("32 07 09  05 01 aa  01 01 bb"));
    expect(parser.header?.subgroup).toBe(5n);
    expect(objects.map(({ object }) => object)).toEqual([5, 7]);
  });

  test("statuses, END_OF_GROUP and FIRST_OBJECT are told", () => {
    const { parser, objects } = parse(hex("78 01 02  00 00 00  00 00 03"));
    expect(parser.header).toMatchObject({ endOfGroup: true, firstObject: true, group: 2n });
    expect(objects.map(({ status }) => status)).toEqual(["normal", "end-of-group"]);
  });

  test("the same objects come out however the stream is cut", () => {
    const random = seeded(7);
    const out = new ByteWriter().bytes(hex("71 aabb 8411"));
    const sent: MoqtObject[] = [];
    for (let i = 0; i < 40; i++) {
      const payload = Uint8Array.from({ length: 1 + Math.floor(random() * 300) }, () =>
        Math.floor(random() * 256),
      );
      const properties = i % 3 === 0 ? [{ type: 0x10n, value: 1_767_225_600_000_000n + BigInt(i) }] : [];
      sent.push({ object: i, status: "normal", properties, payload });
      out.vi64(0).lengthPrefixed(writeProperties(properties)).lengthPrefixed(payload);
    }
    const bytes = out.finish();
    for (let round = 0; round < 60; round++) {
      const most = 1 + Math.floor(random() * 600);
      const { parser, objects } = parse(bytes, () => 1 + Math.floor(random() * most));
      expect(objects).toEqual(sent);
      expect(() => parser.handleFin()).not.toThrow();
    }
  });

  test.each([
    ["inside the header", "14 02"],
    ["before the first payload", "14 02 00 00 00 00 04"],
    ["inside a payload", "14 02 00 00 00 00 04 6162"],
  ])("a FIN %s is a violation", (_, bytes) => {
    expect(() => parse(hex(bytes)).parser.handleFin()).toThrow(SessionError);
  });

  test.each([
    ["a reserved Subgroup ID mode", "16 02 00"],
    ["a status that doesn't exist", "14 02 00 00 00 00 00 01"],
    ["properties on an end of group", "15 02 00 00 00 00 02 1001 00 03"],
    ["an Object ID out of range", "14 02 00 00 00 feffffffffffffff 00 00"],
    ["a payload of 4 GiB", "14 02 00 00 00 00 f100000000"],
    ["properties of 16 MiB", "15 02 00 00 00 00 e1000000"],
  ])("ends the session for %s", (_, bytes) => {
    expect(() => parse(hex(bytes))).toThrow(/./);
  });

  test("random streams give objects or a clear error, and never hang", () => {
    const random = seeded(3);
    for (let round = 0; round < 5000; round++) {
      const bytes = Uint8Array.from({ length: Math.floor(random() * 60) }, () => Math.floor(random() * 256));
      bytes[0] = 0x10 | (bytes[0] ?? 0);
      try {
        parse(bytes, () => 1 + Math.floor(random() * 9));
      } catch (error) {
        if (!(error instanceof SessionError) && !(error instanceof RangeError)) throw error;
      }
    }
  });
});

describe("datagrams", () => {
  test("one object with properties", () => {
    expect(draft18.decodeDatagram(hex("01 02 03 04 80 02 1005 6869"))).toEqual({
      trackAlias: 2n,
      group: 3n,
      endOfGroup: false,
      object: { object: 4, status: "normal", properties: [{ type: 0x10n, value: 5n }], payload: text("hi") },
    });
  });

  test("object 0 and the default priority are left out", () => {
    expect(draft18.decodeDatagram(hex("0e 02 03 6869"))).toMatchObject({
      endOfGroup: true,
      object: { object: 0, payload: text("hi") },
    });
  });

  test("a status instead of a payload", () => {
    expect(draft18.decodeDatagram(hex("28 02 03 04 03"))?.object.status).toBe("end-of-group");
  });

  test("padding is nothing", () => {
    const padding = new ByteWriter().vi64(0x132b3e29).bytes(new Uint8Array(20)).finish();
    expect(draft18.decodeDatagram(padding)).toBeUndefined();
  });

  test.each([
    ["an unknown type", "10 02 03 04"],
    ["status and end of group", "22 02 03 04 80 00"],
    ["announced properties that aren't there", "01 02 03 04 80 00"],
    ["properties with an end of group", "29 02 03 04 02 1005 03"],
    ["a cut header", "00 02"],
    ["no byte at all", ""],
  ])("ends the session for %s", (_, bytes) => {
    expect(() => draft18.decodeDatagram(hex(bytes))).toThrow(SessionError);
  });
});
