/** The payload of each control message that a player sends or gets ("Control Messages"). */

import { type ByteReader, ByteWriter, utf8 } from "../bytes";
import { protocolViolation, RequestErrorCode } from "../errors";
import type { Message, Redirect, RequestError } from "../model";
import { readFullTrackName, writeFullTrackName } from "../names";
import { readProperties, writeProperties } from "../properties";
import { readParameters, writeParameters } from "./parameters";

export const MessageType = {
  REQUEST_UPDATE: 0x2,
  SUBSCRIBE: 0x3,
  SUBSCRIBE_OK: 0x4,
  REQUEST_ERROR: 0x5,
  REQUEST_OK: 0x7,
  PUBLISH_DONE: 0xb,
  GOAWAY: 0x10,
  SETUP: 0x2f00,
} as const;

/** First messages of request streams that a player has no answer for but "not supported". */
const foreignRequests: ReadonlyMap<bigint, string> = new Map([
  [0x6n, "PUBLISH_NAMESPACE"],
  [0xdn, "TRACK_STATUS"],
  [0x16n, "FETCH"],
  [0x1dn, "PUBLISH"],
  [0x50n, "SUBSCRIBE_NAMESPACE"],
  [0x51n, "SUBSCRIBE_TRACKS"],
]);

const MOQT_IMPLEMENTATION = 0x07n;
const MAX_REASON_BYTES = 1024;
const MAX_URI_BYTES = 8192;

export function typeOf(message: Message): number {
  switch (message.kind) {
    case "setup":
      return MessageType.SETUP;
    case "goaway":
      return MessageType.GOAWAY;
    case "subscribe":
      return MessageType.SUBSCRIBE;
    case "subscribe-ok":
      return MessageType.SUBSCRIBE_OK;
    case "request-update":
      return MessageType.REQUEST_UPDATE;
    case "request-ok":
      return MessageType.REQUEST_OK;
    case "request-error":
      return MessageType.REQUEST_ERROR;
    case "publish-done":
      return MessageType.PUBLISH_DONE;
    case "foreign-request":
      throw new RangeError(`${message.name} is never sent by a player`);
  }
}

function readText(input: ByteReader, limit: number, what: string): string {
  const length = input.uint();
  if (length > limit) throw protocolViolation(`${what} of ${length} bytes; ${limit} is the most`);
  return utf8.decode(input.bytes(length));
}

const readReason = (input: ByteReader) => readText(input, MAX_REASON_BYTES, "a Reason Phrase");

function readRedirect(input: ByteReader): Redirect {
  return { connectUri: readText(input, MAX_URI_BYTES, "a Connect URI"), track: readFullTrackName(input) };
}

function readRequestError(input: ByteReader): RequestError {
  const code = input.uint();
  // The interval is sent plus one; 0 says "do not retry".
  const interval = input.u64();
  const reason = readReason(input);
  return {
    kind: "request-error",
    code,
    ...(interval > 0n && { retryAfter: interval - 1n }),
    reason,
    ...(code === RequestErrorCode.REDIRECT && { redirect: readRedirect(input) }),
  };
}

export function decodePayload(type: bigint, input: ByteReader, onControlStream: boolean): Message {
  switch (type) {
    case BigInt(MessageType.SETUP): {
      const option = readProperties(input.rest()).find((property) => property.type === MOQT_IMPLEMENTATION);
      return {
        kind: "setup",
        ...(option?.value instanceof Uint8Array && { implementation: utf8.decode(option.value) }),
      };
    }
    case BigInt(MessageType.GOAWAY): {
      const newSessionUri = readText(input, MAX_URI_BYTES, "a New Session URI");
      const timeout = input.u64();
      return { kind: "goaway", newSessionUri, timeout, ...(onControlStream && { requestId: input.u64() }) };
    }
    case BigInt(MessageType.SUBSCRIBE):
      return {
        kind: "subscribe",
        requestId: input.u64(),
        track: readFullTrackName(input),
        parameters: readParameters(input, "subscribe"),
      };
    case BigInt(MessageType.SUBSCRIBE_OK):
      return {
        kind: "subscribe-ok",
        trackAlias: input.u64(),
        parameters: readParameters(input, "subscribe-ok"),
        trackProperties: readProperties(input.rest()),
      };
    case BigInt(MessageType.REQUEST_UPDATE):
      return {
        kind: "request-update",
        requestId: input.u64(),
        parameters: readParameters(input, "request-update"),
      };
    case BigInt(MessageType.REQUEST_OK):
      return {
        kind: "request-ok",
        parameters: readParameters(input, "request-ok"),
        trackProperties: readProperties(input.rest()),
      };
    case BigInt(MessageType.REQUEST_ERROR):
      return readRequestError(input);
    case BigInt(MessageType.PUBLISH_DONE):
      return {
        kind: "publish-done",
        code: input.uint(),
        streamCount: input.u64(),
        reason: readReason(input),
      };
    default: {
      const name = foreignRequests.get(type);
      if (name !== undefined) return { kind: "foreign-request", name };
      throw protocolViolation(`unknown message type 0x${type.toString(16)}`);
    }
  }
}

export function encodePayload(message: Message): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter();
  switch (message.kind) {
    case "setup": {
      const { implementation } = message;
      if (implementation === undefined) break;
      out.bytes(writeProperties([{ type: MOQT_IMPLEMENTATION, value: utf8.encode(implementation) }]));
      break;
    }
    case "goaway":
      out.lengthPrefixed(utf8.encode(message.newSessionUri)).vi64(message.timeout);
      if (message.requestId !== undefined) out.vi64(message.requestId);
      break;
    case "subscribe":
      out.vi64(message.requestId);
      writeFullTrackName(out, message.track);
      writeParameters(out, message.parameters);
      break;
    case "subscribe-ok":
      out.vi64(message.trackAlias);
      writeParameters(out, message.parameters);
      out.bytes(writeProperties(message.trackProperties));
      break;
    case "request-update":
      out.vi64(message.requestId);
      writeParameters(out, message.parameters);
      break;
    case "request-ok":
      writeParameters(out, message.parameters);
      out.bytes(writeProperties(message.trackProperties));
      break;
    case "request-error":
      out
        .vi64(message.code)
        .vi64(message.retryAfter === undefined ? 0n : message.retryAfter + 1n)
        .lengthPrefixed(utf8.encode(message.reason));
      if (message.redirect) {
        out.lengthPrefixed(utf8.encode(message.redirect.connectUri));
        writeFullTrackName(out, message.redirect.track);
      }
      break;
    case "publish-done":
      out.vi64(message.code).vi64(message.streamCount).lengthPrefixed(utf8.encode(message.reason));
      break;
    case "foreign-request":
      throw new RangeError(`${message.name} is never sent by a player`);
  }
  return out.finish();
}
