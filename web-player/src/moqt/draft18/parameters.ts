/** Message Parameters ("Message Parameters"): counted, delta-typed, and none that may be unknown. */

import { ByteReader, ByteWriter } from "../bytes";
import { protocolViolation } from "../errors";
import type { Location, Message, Parameters, SubscriptionFilter } from "../model";
import { readNamespace, writeNamespace } from "../names";
import { readToken, writeToken } from "../tokens";

type Kind = Message["kind"];
type Writable = { -readonly [K in keyof Parameters]: Parameters[K] };

interface Definition {
  readonly type: number;
  readonly name: string;
  /** The messages it may appear in; anywhere else it ends the session. */
  readonly scope: readonly Kind[];
  readonly repeatable?: boolean;
  read(input: ByteReader, into: Writable): void;
  /** One value per instance to write; none: not sent. */
  write(parameters: Parameters): ((out: ByteWriter) => void)[];
}

const FilterType = { NEXT_GROUP_START: 1, LARGEST_OBJECT: 2, ABSOLUTE_START: 3, ABSOLUTE_RANGE: 4 } as const;
const GroupOrderValue = { ascending: 1, descending: 2 } as const;

type IntegerKey = {
  [K in keyof Parameters]-?: NonNullable<Parameters[K]> extends bigint ? K : never;
}[keyof Parameters];

function integer(type: number, name: string, key: IntegerKey, scope: readonly Kind[]): Definition {
  return {
    type,
    name,
    scope,
    read: (input, into) => {
      into[key] = input.u64();
    },
    write: (parameters) => {
      const value = parameters[key];
      return value === undefined ? [] : [(out) => out.vi64(value)];
    },
  };
}

function readLocation(input: ByteReader): Location {
  return { group: input.u64(), object: input.u64() };
}

function writeLocation(out: ByteWriter, { group, object }: Location): void {
  out.vi64(group).vi64(object);
}

function readFilter(bytes: Uint8Array): SubscriptionFilter {
  const input = new ByteReader(bytes);
  const type = input.uint();
  switch (type) {
    case FilterType.NEXT_GROUP_START:
      return { kind: "next-group-start" };
    case FilterType.LARGEST_OBJECT:
      return { kind: "largest-object" };
    case FilterType.ABSOLUTE_START:
      return { kind: "absolute-start", start: readLocation(input) };
    case FilterType.ABSOLUTE_RANGE: {
      const start = readLocation(input);
      const endGroup = start.group + input.u64();
      if (endGroup >= 1n << 64n)
        throw protocolViolation("a Subscription Filter that ends above group 2^64 - 1");
      return { kind: "absolute-range", start, endGroup };
    }
    default:
      throw protocolViolation(`Subscription Filter type ${type} does not exist`);
  }
}

function writeFilter(filter: SubscriptionFilter): Uint8Array {
  const out = new ByteWriter();
  switch (filter.kind) {
    case "next-group-start":
      out.vi64(FilterType.NEXT_GROUP_START);
      break;
    case "largest-object":
      out.vi64(FilterType.LARGEST_OBJECT);
      break;
    case "absolute-start":
      out.vi64(FilterType.ABSOLUTE_START);
      writeLocation(out, filter.start);
      break;
    case "absolute-range":
      out.vi64(FilterType.ABSOLUTE_RANGE);
      writeLocation(out, filter.start);
      out.vi64(filter.endGroup - filter.start.group);
      break;
  }
  return out.finish();
}

/** In ascending order of type, the order they are sent in. PUBLISH_OK is a REQUEST_OK. */
const definitions: readonly Definition[] = [
  integer(0x02, "OBJECT_DELIVERY_TIMEOUT", "objectDeliveryTimeout", [
    "request-ok",
    "subscribe",
    "request-update",
  ]),
  {
    type: 0x03,
    name: "AUTHORIZATION_TOKEN",
    scope: ["subscribe", "request-update"],
    repeatable: true,
    read: (input, into) => {
      into.authorizationTokens = [...(into.authorizationTokens ?? []), readToken(input.bytes(input.uint()))];
    },
    write: ({ authorizationTokens = [] }) =>
      authorizationTokens.map((token) => (out) => out.lengthPrefixed(writeToken(token))),
  },
  integer(0x04, "RENDEZVOUS_TIMEOUT", "rendezvousTimeout", ["subscribe"]),
  integer(0x06, "SUBGROUP_DELIVERY_TIMEOUT", "subgroupDeliveryTimeout", [
    "request-ok",
    "subscribe",
    "request-update",
  ]),
  integer(0x08, "EXPIRES", "expires", ["subscribe-ok", "request-ok"]),
  {
    type: 0x09,
    name: "LARGEST_OBJECT",
    scope: ["subscribe-ok", "request-ok"],
    read: (input, into) => {
      into.largestObject = readLocation(input);
    },
    write: ({ largestObject }) => (largestObject ? [(out) => writeLocation(out, largestObject)] : []),
  },
  integer(0x0a, "FILL_TIMEOUT", "fillTimeout", []),
  {
    type: 0x10,
    name: "FORWARD",
    scope: ["subscribe", "request-update", "request-ok"],
    read: (input, into) => {
      const value = input.u8();
      if (value > 1) throw protocolViolation(`FORWARD is ${value}; only 0 and 1 are allowed`);
      into.forward = value === 1;
    },
    write: ({ forward }) => (forward === undefined ? [] : [(out) => out.u8(forward ? 1 : 0)]),
  },
  {
    type: 0x20,
    name: "SUBSCRIBER_PRIORITY",
    scope: ["subscribe", "request-update", "request-ok"],
    read: (input, into) => {
      into.subscriberPriority = input.u8();
    },
    write: ({ subscriberPriority }) =>
      subscriberPriority === undefined ? [] : [(out) => out.u8(subscriberPriority)],
  },
  {
    type: 0x21,
    name: "SUBSCRIPTION_FILTER",
    scope: ["subscribe", "request-update", "request-ok"],
    read: (input, into) => {
      into.filter = readFilter(input.bytes(input.uint()));
    },
    write: ({ filter }) => (filter ? [(out) => out.lengthPrefixed(writeFilter(filter))] : []),
  },
  {
    type: 0x22,
    name: "GROUP_ORDER",
    scope: ["subscribe", "request-ok"],
    read: (input, into) => {
      const value = input.u8();
      if (value === GroupOrderValue.ascending) into.groupOrder = "ascending";
      else if (value === GroupOrderValue.descending) into.groupOrder = "descending";
      else throw protocolViolation(`GROUP_ORDER is ${value}; only 1 and 2 are allowed`);
    },
    write: ({ groupOrder }) => (groupOrder ? [(out) => out.u8(GroupOrderValue[groupOrder])] : []),
  },
  integer(0x32, "NEW_GROUP_REQUEST", "newGroupRequest", ["subscribe", "request-update", "request-ok"]),
  {
    type: 0x34,
    name: "TRACK_NAMESPACE_PREFIX",
    scope: ["request-update"],
    read: (input, into) => {
      into.namespacePrefix = readNamespace(input);
    },
    write: ({ namespacePrefix }) => (namespacePrefix ? [(out) => writeNamespace(out, namespacePrefix)] : []),
  },
];

export function readParameters(input: ByteReader, kind: Kind): Parameters {
  const parameters: Writable = {};
  const count = input.uint();
  let type = 0n;
  for (let i = 0; i < count; i++) {
    const delta = input.u64();
    type += delta;
    const definition = definitions.find((candidate) => BigInt(candidate.type) === type);
    if (!definition) throw protocolViolation(`unknown Message Parameter 0x${type.toString(16)}`);
    if (!definition.scope.includes(kind)) throw protocolViolation(`${definition.name} in a ${kind} message`);
    if (i > 0 && delta === 0n && !definition.repeatable) throw protocolViolation(`${definition.name} twice`);
    definition.read(input, parameters);
  }
  return parameters;
}

export function writeParameters(out: ByteWriter, parameters: Parameters): void {
  const instances = definitions.flatMap(({ type, write }) =>
    write(parameters).map((value) => ({ type, value })),
  );
  out.vi64(instances.length);
  let previous = 0;
  for (const { type, value } of instances) {
    out.vi64(type - previous);
    previous = type;
    value(out);
  }
}
