/** Draft-18 on the wire. */

import { ByteReader, ByteWriter, EndOfBytes } from "../bytes";
import type { Codec, UniStreamKind } from "../codec";
import { protocolViolation } from "../errors";
import type { Message } from "../model";
import { decodeDatagram, isSubgroupType, Subgroup } from "./data";
import { decodePayload, encodePayload, MessageType, typeOf } from "./messages";

const FETCH_HEADER = 0x05n;
const PADDING_STREAM = 0x132b3e28n;
const MAX_PAYLOAD_BYTES = 0xffff;

function encodeMessage(message: Message): Uint8Array<ArrayBuffer> {
  const payload = encodePayload(message);
  if (payload.byteLength > MAX_PAYLOAD_BYTES) {
    throw new RangeError(
      `a ${message.kind} message of ${payload.byteLength} bytes; ${MAX_PAYLOAD_BYTES} is the most`,
    );
  }
  return new ByteWriter().vi64(typeOf(message)).u16(payload.byteLength).bytes(payload).finish();
}

export const draft18: Codec = {
  protocol: "moqt-18",
  // The stream's type is the SETUP message's type: one field serves as both.
  encodeSetup: encodeMessage,
  encodeMessage,
  decodeMessage(type, payload, onControlStream) {
    const input = new ByteReader(payload);
    try {
      const message = decodePayload(type, input, onControlStream);
      if (message.kind !== "foreign-request" && input.remaining > 0) {
        throw protocolViolation(`${input.remaining} bytes too many in a ${message.kind} message`);
      }
      return message;
    } catch (error) {
      if (error instanceof EndOfBytes) throw protocolViolation(`message 0x${type.toString(16)} is cut off`);
      throw error;
    }
  },
  uniStreamKind(type): UniStreamKind {
    if (type === BigInt(MessageType.SETUP)) return "control";
    if (type === FETCH_HEADER) return "fetch";
    if (type === PADDING_STREAM) return "padding";
    if (isSubgroupType(type)) return "subgroup";
    throw protocolViolation(`a stream of unknown type 0x${type.toString(16)}`);
  },
  subgroupParser: () => new Subgroup(),
  decodeDatagram,
};
