/** The payload of each control message that a player sends or gets ("Control Messages"). */

import { type ByteReader, ByteWriter, utf8 } from "../bytes";
import { protocolViolation, RequestErrorCode } from "../errors";
import type { Message, Redirect, RequestError } from "../model";
import { readFullTrackName, writeFullTrackName } from "../names";
import { integerProperties, type Property, readProperties, writeProperties } from "../properties";
import type { Dialect } from "./dialect";
import { readParameters, writeParameters } from "./parameters";

export const MessageType = {
  REQUEST_UPDATE: 0x2,
  SUBSCRIBE: 0x3,
  SUBSCRIBE_OK: 0x4,
  REQUEST_ERROR: 0x5,
  REQUEST_OK: 0x7,
  PUBLISH_DONE: 0xb,
  TRACK_STATUS: 0xd,
  GOAWAY: 0x10,
  PUBLISH: 0x1d,
  PUBLISH_OK: 0x1e,
  PUBLISH_STATE_NOTIFY: 0x22,
  SETUP: 0x2f00,
} as const;

/** First messages of request streams that a player has no answer for but "not supported". */
const foreignRequests: ReadonlyMap<bigint, string> = new Map([
  [0x6n, "PUBLISH_NAMESPACE"],
  [0x16n, "FETCH"],
  [0x50n, "SUBSCRIBE_NAMESPACE"],
  [0x51n, "SUBSCRIBE_TRACKS"],
]);

const MOQT_IMPLEMENTATION = 0x07n;
/** Track Properties whose values the draft limits ("MOQT Properties"). */
const limitedProperties = [
  { type: 0x22, name: "DEFAULT_PUBLISHER_GROUP_ORDER", least: 1n, most: 2n },
  { type: 0x30, name: "DYNAMIC_GROUPS", least: 0n, most: 1n },
] as const;
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
    case "track-status":
      return MessageType.TRACK_STATUS;
    case "publish":
      return MessageType.PUBLISH;
    case "publish-done":
      return MessageType.PUBLISH_DONE;
    case "publish-state-notify":
      return MessageType.PUBLISH_STATE_NOTIFY;
    case "foreign-request":
      throw new RangeError(`${message.name} is never sent by a player`);
  }
}

function readText(input: ByteReader, limit: number, what: string): string {
  const length = input.uint();
  if (length > limit) throw protocolViolation(`${what} of ${length} bytes; ${limit} is the most`);
  return utf8.decode(input.bytes(length));
}

/** An unknown code reads as INTERNAL_ERROR, so one that is too large to be exact loses nothing. */
const readCode = (input: ByteReader) => Number(input.u64());

function readSetupOptions({ singleOptions }: Dialect, input: ByteReader): readonly Property[] {
  const options = readProperties(input.rest());
  // They ascend, so equal ones are neighbours.
  const repeated = options.find(
    ({ type }, index) => singleOptions.includes(type) && options[index - 1]?.type === type,
  );
  if (repeated) throw protocolViolation(`Setup Option 0x${repeated.type.toString(16)} twice`);
  return options;
}

function readTrackProperties(input: ByteReader): readonly Property[] {
  const properties = readProperties(input.rest());
  for (const { type, name, least, most } of limitedProperties) {
    const wrong = integerProperties(properties, type).find((value) => value < least || value > most);
    if (wrong !== undefined) throw protocolViolation(`${name} is ${wrong}`);
  }
  return properties;
}

const readReason = (input: ByteReader) => readText(input, MAX_REASON_BYTES, "a Reason Phrase");

function readRedirect(input: ByteReader): Redirect {
  return { connectUri: readText(input, MAX_URI_BYTES, "a Connect URI"), track: readFullTrackName(input) };
}

function readRequestError(input: ByteReader): RequestError {
  const code = readCode(input);
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

export function decodePayload(
  dialect: Dialect,
  type: bigint,
  input: ByteReader,
  onControlStream: boolean,
): Message {
  const parametersOf = (kind: Message["kind"]) => readParameters(dialect.parameters, input, kind);
  const requestOk = (): Message => ({
    kind: "request-ok",
    parameters: parametersOf("request-ok"),
    trackProperties: readTrackProperties(input),
  });
  switch (type) {
    case BigInt(MessageType.SETUP): {
      const option = readSetupOptions(dialect, input).find(({ type }) => type === MOQT_IMPLEMENTATION);
      return {
        kind: "setup",
        ...(option?.value instanceof Uint8Array && { implementation: utf8.decode(option.value) }),
      };
    }
    case BigInt(MessageType.GOAWAY): {
      const newSessionUri = readText(input, MAX_URI_BYTES, "a New Session URI");
      const timeout = input.u64();
      // It belongs there; peers are about that leave it out.
      const hasRequest = dialect.goAwayNamesRequest && onControlStream && input.remaining > 0;
      return { kind: "goaway", newSessionUri, timeout, ...(hasRequest && { requestId: input.u64() }) };
    }
    case BigInt(MessageType.SUBSCRIBE):
      return {
        kind: "subscribe",
        requestId: input.u64(),
        track: readFullTrackName(input),
        parameters: parametersOf("subscribe"),
      };
    case BigInt(MessageType.SUBSCRIBE_OK):
      return {
        kind: "subscribe-ok",
        trackAlias: input.u64(),
        parameters: parametersOf("subscribe-ok"),
        trackProperties: readTrackProperties(input),
      };
    case BigInt(MessageType.REQUEST_UPDATE):
      return {
        kind: "request-update",
        requestId: input.u64(),
        parameters: parametersOf("request-update"),
      };
    case BigInt(MessageType.PUBLISH_OK):
      if (!dialect.hasPublishOk) break;
      return requestOk();
    case BigInt(MessageType.REQUEST_OK):
      return requestOk();
    case BigInt(MessageType.REQUEST_ERROR):
      return readRequestError(input);
    case BigInt(MessageType.TRACK_STATUS):
      return {
        kind: "track-status",
        requestId: input.u64(),
        track: readFullTrackName(input),
        parameters: parametersOf("track-status"),
      };
    case BigInt(MessageType.PUBLISH):
      return {
        kind: "publish",
        requestId: input.u64(),
        track: readFullTrackName(input),
        trackAlias: input.u64(),
        parameters: parametersOf("publish"),
        trackProperties: readTrackProperties(input),
      };
    case BigInt(MessageType.PUBLISH_DONE):
      return {
        kind: "publish-done",
        code: readCode(input),
        streamCount: input.u64(),
        reason: readReason(input),
      };
    case BigInt(MessageType.PUBLISH_STATE_NOTIFY):
      if (!dialect.hasStateNotify) break;
      return { kind: "publish-state-notify", parameters: parametersOf("publish-state-notify") };
    default: {
      const name = foreignRequests.get(type);
      if (name !== undefined) return { kind: "foreign-request", name };
    }
  }
  throw protocolViolation(`unknown message type 0x${type.toString(16)}`);
}

export function encodePayload({ parameters: rows }: Dialect, message: Message): Uint8Array<ArrayBuffer> {
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
    case "track-status":
      out.vi64(message.requestId);
      writeFullTrackName(out, message.track);
      writeParameters(rows, out, message.parameters);
      break;
    case "subscribe-ok":
      out.vi64(message.trackAlias);
      writeParameters(rows, out, message.parameters);
      out.bytes(writeProperties(message.trackProperties));
      break;
    case "request-update":
      out.vi64(message.requestId);
      writeParameters(rows, out, message.parameters);
      break;
    case "request-ok":
      writeParameters(rows, out, message.parameters);
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
    case "publish":
      out.vi64(message.requestId);
      writeFullTrackName(out, message.track);
      out.vi64(message.trackAlias);
      writeParameters(rows, out, message.parameters);
      out.bytes(writeProperties(message.trackProperties));
      break;
    case "publish-done":
      out.vi64(message.code).vi64(message.streamCount).lengthPrefixed(utf8.encode(message.reason));
      break;
    case "publish-state-notify":
      writeParameters(rows, out, message.parameters);
      break;
    case "foreign-request":
      throw new RangeError(`${message.name} is never sent by a player`);
  }
  return out.finish();
}
