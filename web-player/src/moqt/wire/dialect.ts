/**
 * Drafts with a stream per request, on the wire. What they have in common is written once; a draft is a
 * {@link Dialect}, the little that sets it apart.
 */

import { ByteReader, ByteWriter, EndOfBytes } from "../bytes";
import type { Codec, UniStreamKind } from "../codec";
import { protocolViolation } from "../errors";
import type { Message } from "../model";
import { decodeDatagram, encodeGroup, isSubgroupType, Subgroup } from "./data";
import { decodePayload, encodePayload, MessageType, typeOf } from "./messages";
import type { ParameterRow } from "./parameters";

const FETCH_HEADER = 0x05n;
const PADDING_STREAM = 0x132b3e28n;
const MAX_PAYLOAD_BYTES = 0xffff;

export interface Dialect {
  /** The protocol's name in WT-Available-Protocols. */
  readonly protocol: string;
  /** In ascending order of type, the order they are sent in. */
  readonly parameters: readonly ParameterRow[];
  /** Setup Options that come once at most. */
  readonly singleOptions: readonly bigint[];
  /** GOAWAY on the control stream says which request was the first not to be processed. */
  readonly goAwayNamesRequest: boolean;
  /** The publisher may tell that it changed a subscription by itself. */
  readonly hasStateNotify: boolean;
  /** PUBLISH_OK is a REQUEST_OK that may come under a type of its own. */
  readonly hasPublishOk: boolean;
}

function encodeMessage(dialect: Dialect, message: Message): Uint8Array<ArrayBuffer> {
  const payload = encodePayload(dialect, message);
  if (payload.byteLength > MAX_PAYLOAD_BYTES) {
    throw new RangeError(
      `a ${message.kind} message of ${payload.byteLength} bytes; ${MAX_PAYLOAD_BYTES} is the most`,
    );
  }
  return new ByteWriter().vi64(typeOf(message)).u16(payload.byteLength).bytes(payload).finish();
}

function uniStreamKind(type: bigint): UniStreamKind {
  if (type === BigInt(MessageType.SETUP)) return "control";
  if (type === FETCH_HEADER) return "fetch";
  if (type === PADDING_STREAM) return "padding";
  if (isSubgroupType(type)) return "subgroup";
  throw protocolViolation(`a stream of unknown type 0x${type.toString(16)}`);
}

export function codecOf(dialect: Dialect): Codec {
  return {
    protocol: dialect.protocol,
    // The stream's type is the SETUP message's type: one field serves as both.
    encodeSetup: (setup) => encodeMessage(dialect, setup),
    encodeMessage: (message) => encodeMessage(dialect, message),
    decodeMessage(type, payload, onControlStream) {
      const input = new ByteReader(payload);
      try {
        const message = decodePayload(dialect, type, input, onControlStream);
        if (message.kind !== "foreign-request" && input.remaining > 0) {
          throw protocolViolation(`${input.remaining} bytes too many in a ${message.kind} message`);
        }
        return message;
      } catch (error) {
        if (error instanceof EndOfBytes) throw protocolViolation(`message 0x${type.toString(16)} is cut off`);
        throw error;
      }
    },
    uniStreamKind,
    subgroupParser: () => new Subgroup(),
    encodeGroup,
    decodeDatagram,
  };
}
