/** The codec against the byte vectors that it shares with the Rust one (`crates/moqt/tests/vectors`). */

import { describe, expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../src/moqt/bytes";
import type { Codec } from "../src/moqt/codec";
import { draft18 } from "../src/moqt/draft18";
import { draft22 } from "../src/moqt/draft22";
import { SessionCode, SessionError } from "../src/moqt/errors";
import { MessageFramer } from "../src/moqt/framing";
import type { Message, MoqtObject } from "../src/moqt/model";
import { readProperties, writeProperties } from "../src/moqt/properties";
import { hex, unhex } from "./support/hex";
import { type MessageVector, type Pair, vectors18, vectors22, type WrongVector } from "./support/vectors";
import { datagram, pairs, subgroupHeader, subgroupObject, wireForm } from "./support/wire-form";

const drafts = [
  { draft: 18, codec: draft18, vectors: vectors18 },
  { draft: 22, codec: draft22, vectors: vectors22 },
] as const;

/** Answers to what a player never asks: FETCH_OK, NAMESPACE, NAMESPACE_DONE, PUBLISH_BLOCKED. */
const neverAsked: ReadonlySet<bigint> = new Set([0x18n, 0x08n, 0x0en, 0x0fn]);

function typeOf(bytes: Uint8Array): bigint {
  return new ByteReader(bytes).u64();
}

/** What a whole message says. GOAWAY names a request on the control stream only. */
function decode(codec: Codec, bytes: Uint8Array, onControlStream: boolean): Message {
  const framer = new MessageFramer();
  framer.handleBytes(bytes);
  const frame = framer.pollFrame();
  if (!frame || framer.midMessage) throw new Error("not exactly one message");
  return codec.decodeMessage(frame.type, frame.payload, onControlStream);
}

/** Every object of a stream that comes in pieces of `size` bytes and ends with FIN. */
function readSubgroup(codec: Codec, bytes: Uint8Array, size: number) {
  const parser = codec.subgroupParser();
  const objects: MoqtObject[] = [];
  for (let at = 0; at < bytes.byteLength; at += size) {
    parser.handleBytes(bytes.slice(at, at + size));
    for (let object = parser.pollObject(); object; object = parser.pollObject()) objects.push(object);
  }
  parser.handleFin();
  return { header: parser.header, objects };
}

/** FILL_PARAMETERS and the range filters, which are stepped over: only publishers have a use for them. */
const steppedOver: ReadonlySet<string> = new Set(["0x23", "0x25", "0x26", "0x27", "0x28", "0x29"]);

/** What the player keeps of a vector: of requests it does not serve nothing, of SETUP its peer's name. */
function kept({ type, fields }: MessageVector, message: Message): Pick<MessageVector, "type" | "fields"> {
  const only = (list: unknown, keep: (pair: Pair) => boolean) => (list as readonly Pair[]).filter(keep);
  if (message.kind === "foreign-request") return { type, fields: {} };
  if (message.kind === "setup") {
    return { type, fields: { options: only(fields.options, (option) => option.type === "0x7") } };
  }
  if (!("parameters" in fields)) return { type, fields };
  const parameters = only(fields.parameters, (parameter) => !steppedOver.has(parameter.type));
  return { type, fields: { ...fields, parameters } };
}

/** A player refuses a FETCH whatever it says, and reads no fetch streams. */
const isServed = ({ name, kind }: WrongVector) => kind !== "fetch" && name !== "FETCH of unknown type";

describe.each(drafts)("draft $draft", ({ draft, codec, vectors }: (typeof drafts)[number]) => {
  describe("integers", () => {
    test.each(vectors.integers)("$name", ({ hex: digits, value, canonical }) => {
      const bytes = hex(digits);
      const reader = new ByteReader(bytes);
      expect(reader.u64()).toBe(BigInt(value));
      expect(reader.remaining).toBe(0);
      if (canonical !== false) expect(unhex(new ByteWriter().vi64(BigInt(value)).finish())).toBe(digits);
    });
  });

  describe("messages", () => {
    const heard = vectors.messages.filter(({ hex: digits }) => !neverAsked.has(typeOf(hex(digits))));
    test.each(heard)("$name", (vector) => {
      const bytes = hex(vector.hex);
      const onControlStream = vector.type === "goaway" && "request_id" in vector.fields;
      const message = decode(codec, bytes, onControlStream);
      const known = kept(vector, message);
      expect(wireForm(draft, message)).toEqual(known);
      // What the player holds in full it also writes, byte for byte.
      const inFull = JSON.stringify(known.fields) === JSON.stringify(vector.fields);
      if (inFull && vector.canonical !== false) expect(unhex(codec.encodeMessage(message))).toBe(vector.hex);
    });

    const unheard = vectors.messages.filter(({ hex: digits }) => neverAsked.has(typeOf(hex(digits))));
    test.each(unheard)("$name, which answers nothing that a player asks", ({ hex: digits }) => {
      expect(() => decode(codec, hex(digits), false)).toThrow(
        expect.objectContaining({ code: SessionCode.PROTOCOL_VIOLATION }),
      );
    });
  });

  describe("subgroup streams", () => {
    test.each(vectors.subgroups)("$name", ({ hex: digits, header, objects }) => {
      const bytes = hex(digits);
      expect(codec.uniStreamKind(typeOf(bytes))).toBe("subgroup");
      for (let size = 1; size <= bytes.byteLength; size++) {
        const read = readSubgroup(codec, bytes, size);
        const [first] = objects;
        // Named by its first object, and known with it.
        const subgroup = header.subgroup_id === undefined && first && { subgroup_id: first.object_id };
        expect(read.header && subgroupHeader(read.header)).toEqual({ ...header, ...subgroup });
        expect(read.objects.map(subgroupObject)).toEqual(objects);
      }
    });
  });

  describe("datagrams", () => {
    test.each(vectors.datagrams)("$name", ({ name: _, hex: digits, canonical: __, ...says }) => {
      const read = codec.decodeDatagram(hex(digits));
      if (says.padding) return expect(read).toBeUndefined();
      const { publisher_priority: ___, ...kept } = says;
      expect(read && datagram(read)).toEqual({ object_status: "0", payload: "", ...kept });
    });
  });

  describe("properties", () => {
    test.each(vectors.properties)("$name", ({ hex: digits, properties }) => {
      const read = readProperties(hex(digits));
      expect(pairs(read)).toEqual(properties);
      expect(unhex(writeProperties(read))).toBe(digits);
    });
  });

  describe("wrong bytes", () => {
    function read({ kind }: WrongVector, bytes: Uint8Array): unknown {
      switch (kind) {
        case "message":
          return decode(codec, bytes, false);
        case "subgroup":
          codec.uniStreamKind(typeOf(bytes));
          return readSubgroup(codec, bytes, bytes.byteLength);
        case "datagram":
          return codec.decodeDatagram(bytes);
        case "properties":
          return readProperties(bytes);
        case "fetch":
          throw new Error("a player reads no fetch streams");
      }
    }

    test.each(vectors.wrong.filter(isServed))("$kind: $name", (vector) => {
      let refused: unknown;
      try {
        read(vector, hex(vector.hex));
      } catch (error) {
        refused = error;
      }
      expect(refused).toBeInstanceOf(SessionError);
      const { code } = refused as SessionError;
      expect(Object.entries(SessionCode).find(([, value]) => value === code)?.[0]).toBe(vector.error);
    });
  });
});
