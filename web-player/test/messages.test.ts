import { describe, expect, test } from "vitest";
import { ByteWriter } from "../src/moqt/bytes";
import { draft18 } from "../src/moqt/draft18";
import { SessionCode, SessionError } from "../src/moqt/errors";
import { MessageFramer } from "../src/moqt/framing";
import type { Message } from "../src/moqt/model";
import { fullTrackName } from "../src/moqt/names";
import { hex, text } from "./support/hex";
import { seeded } from "./support/random";

function decode(bytes: Uint8Array, onControlStream = false): Message {
  const framer = new MessageFramer();
  framer.handleBytes(bytes);
  const frame = framer.pollFrame();
  if (!frame) throw new Error("no whole message");
  expect(framer.midMessage).toBe(false);
  return draft18.decodeMessage(frame.type, frame.payload, onControlStream);
}

const track = fullTrackName("live/cam1", "video");

interface Vector {
  readonly name: string;
  readonly bytes: string;
  readonly message: Message;
  readonly onControlStream?: boolean;
}

// Laid out by hand from the message formats in "Control Messages".
const vectors: readonly Vector[] = [
  {
    name: "SETUP with MOQT_IMPLEMENTATION",
    bytes: "af00 0007 07 05 7765697231",
    message: { kind: "setup", implementation: "weir1" },
  },
  { name: "SETUP without options", bytes: "af00 0000", message: { kind: "setup" } },
  {
    name: "GOAWAY on the control stream",
    bytes: "10 000c 08 6d6f71743a2f2f61 9388 02",
    onControlStream: true,
    message: { kind: "goaway", newSessionUri: "moqt://a", timeout: 5000n, requestId: 2n },
  },
  {
    name: "GOAWAY on a request stream",
    bytes: "10 0002 00 00",
    message: { kind: "goaway", newSessionUri: "", timeout: 0n },
  },
  {
    name: "SUBSCRIBE as this player sends it",
    bytes: `03 001a
      04
      02 04 6c697665 04 63616d31
      05 766964656f
      03 04 a710 1c 20 02 02`,
    message: {
      kind: "subscribe",
      requestId: 4n,
      track,
      parameters: { rendezvousTimeout: 10_000n, subscriberPriority: 32, groupOrder: "descending" },
    },
  },
  {
    name: "SUBSCRIBE_OK with LARGEST_OBJECT and a Track Property",
    bytes: "04 0008 2a 01 09 8411 1d 0e 20",
    message: {
      kind: "subscribe-ok",
      trackAlias: 42n,
      parameters: { largestObject: { group: 1041n, object: 29n } },
      trackProperties: [{ type: 0x0en, value: 32n }],
    },
  },
  {
    name: "REQUEST_UPDATE",
    bytes: "02 0004 06 01 20 40",
    message: { kind: "request-update", requestId: 6n, parameters: { subscriberPriority: 64 } },
  },
  {
    name: "REQUEST_OK",
    bytes: "07 0001 00",
    message: { kind: "request-ok", parameters: {}, trackProperties: [] },
  },
  {
    name: "REQUEST_ERROR that can be retried at once",
    bytes: "05 0007 10 01 04 6e6f7065",
    message: { kind: "request-error", code: 0x10, retryAfter: 0n, reason: "nope" },
  },
  {
    name: "REQUEST_ERROR that must not be retried",
    bytes: "05 0003 01 00 00",
    message: { kind: "request-error", code: 1, reason: "" },
  },
  {
    name: "REQUEST_ERROR with a Redirect",
    bytes: "05 0010 34 01 00 08 6d6f71743a2f2f62 00 02 6869",
    message: {
      kind: "request-error",
      code: 0x34,
      retryAfter: 0n,
      reason: "",
      redirect: { connectUri: "moqt://b", track: { namespace: [], name: text("hi") } },
    },
  },
  {
    name: "PUBLISH_DONE",
    bytes: "0b 0006 02 07 03 656e64",
    message: { kind: "publish-done", code: 2, streamCount: 7n, reason: "end" },
  },
];

describe("control messages, byte for byte", () => {
  test.each(vectors)("encodes $name", ({ bytes, message }) => {
    expect(draft18.encodeMessage(message)).toEqual(hex(bytes));
  });

  test.each(vectors)("decodes $name", ({ bytes, message, onControlStream }) => {
    expect(decode(hex(bytes), onControlStream)).toEqual(message);
  });

  test.each(vectors)("refuses $name cut short or with a byte too many", ({ bytes, onControlStream }) => {
    const framer = new MessageFramer();
    framer.handleBytes(hex(bytes));
    const frame = framer.pollFrame();
    if (!frame) throw new Error("no whole message");
    const { type, payload } = frame;
    // A list of properties, or a Request ID that a GOAWAY may go without.
    const isOpenEnded = [0x2f00n, 0x4n, 0x7n].includes(type) || (type === 0x10n && onControlStream);
    for (let length = 0; length < payload.byteLength; length++) {
      if (isOpenEnded) continue;
      expect(() => draft18.decodeMessage(type, payload.slice(0, length), onControlStream ?? false)).toThrow(
        SessionError,
      );
    }
    if (isOpenEnded) return;
    const longer = new ByteWriter().bytes(payload).u8(0).finish();
    expect(() => draft18.decodeMessage(type, longer, onControlStream ?? false)).toThrow(SessionError);
  });
});

test("every Message Parameter survives the way there and back", () => {
  const parameters = {
    objectDeliveryTimeout: 1n,
    authorizationTokens: [
      { kind: "register", alias: 1n, type: 0n, value: text("secret") },
      { kind: "use-alias", alias: 1n },
      { kind: "delete", alias: 1n },
      { kind: "use-value", type: 2n, value: text("") },
    ],
    rendezvousTimeout: 2n,
    subgroupDeliveryTimeout: 3n,
    forward: false,
    subscriberPriority: 255,
    filter: { kind: "absolute-range", start: { group: 5n, object: 1n }, endGroup: 9n },
    groupOrder: "ascending",
    newGroupRequest: 1n << 60n,
  } as const;
  const message: Message = { kind: "subscribe", requestId: 0n, track, parameters };
  expect(decode(draft18.encodeMessage(message))).toEqual(message);
});

test.each(["next-group-start", "largest-object"] as const)("the filter %s has no location", (kind) => {
  const message: Message = { kind: "subscribe", requestId: 0n, track, parameters: { filter: { kind } } };
  expect(decode(draft18.encodeMessage(message))).toEqual(message);
});

test.each([
  ["an unknown parameter", "04 0004 2a 01 3f 00"],
  ["a parameter that belongs elsewhere", "04 0004 2a 01 20 00"],
  ["a parameter twice", "04 0006 2a 02 08 01 00 01"],
  ["FORWARD above 1", "02 0004 06 01 10 02"],
  ["GROUP_ORDER 3", "03 0006 00 00 00 01 22 03"],
  ["a filter of an unknown type", "02 0005 06 01 21 01 05"],
  ["a filter that ends above 2^64 - 1", "02 0010 06 01 21 0c 04 ffffffffffffffffff 00 01"],
  ["a namespace field without a byte", "03 0005 00 01 00 00 00"],
  ["33 namespace fields", "03 0003 00 21 01"],
  ["a reason above 1024 bytes", "05 0004 00 00 8401"],
  ["an unknown message", "3d 0000"],
])("ends the session for %s", (_, bytes) => {
  expect(() => decode(hex(bytes))).toThrow(expect.objectContaining({ code: SessionCode.PROTOCOL_VIOLATION }));
});

test("requests that are none of a player's business are known by name", () => {
  expect(decode(hex("16 0003 010203"))).toEqual({ kind: "foreign-request", name: "FETCH" });
});

test("messages come out whole however the stream is cut", () => {
  const random = seeded(18);
  const stream = vectors.map(({ message }) => draft18.encodeMessage(message));
  const bytes = new ByteWriter();
  for (const message of stream) bytes.bytes(message);
  const all = bytes.finish();
  for (let round = 0; round < 50; round++) {
    const framer = new MessageFramer();
    const out: Uint8Array[] = [];
    for (let at = 0; at < all.byteLength; ) {
      const length = 1 + Math.floor(random() * 9);
      framer.handleBytes(all.slice(at, at + length));
      at += length;
      for (let frame = framer.pollFrame(); frame; frame = framer.pollFrame()) {
        out.push(
          new ByteWriter().vi64(frame.type).u16(frame.payload.byteLength).bytes(frame.payload).finish(),
        );
      }
    }
    expect(out).toEqual(stream);
    expect(framer.midMessage).toBe(false);
  }
});

test("random bytes give a message or a clear error, never anything else", () => {
  const random = seeded(1);
  const types = [0x2, 0x3, 0x4, 0x5, 0x7, 0xb, 0x10, 0x2f00];
  for (let round = 0; round < 20_000; round++) {
    const payload = Uint8Array.from({ length: Math.floor(random() * 24) }, () => Math.floor(random() * 256));
    const type = BigInt(types[Math.floor(random() * types.length)] ?? 0);
    try {
      draft18.decodeMessage(type, payload, round % 2 === 0);
    } catch (error) {
      if (!(error instanceof SessionError)) throw error;
    }
  }
});

test("streams are told apart by their type", () => {
  expect(draft18.uniStreamKind(0x2f00n)).toBe("control");
  expect(draft18.uniStreamKind(0x05n)).toBe("fetch");
  expect(draft18.uniStreamKind(0x132b3e28n)).toBe("padding");
  const valid = Array.from({ length: 256 }, (_, type) => type).filter((type) => {
    try {
      return draft18.uniStreamKind(BigInt(type)) === "subgroup";
    } catch {
      return false;
    }
  });
  const ranges = [0x10, 0x18, 0x30, 0x38, 0x50, 0x58, 0x70, 0x78];
  expect(valid).toEqual(ranges.flatMap((first) => Array.from({ length: 6 }, (_, i) => first + i)));
  expect(() => draft18.uniStreamKind(0x80n)).toThrow(SessionError);
});
