/**
 * Message Parameters ("Message Parameters"): counted, delta-typed, and none that may be unknown. What each
 * looks like is here; a draft's table says which it has, and where.
 */

import type { ByteReader, ByteWriter } from "../bytes";
import { protocolViolation } from "../errors";
import type { Message, Parameters } from "../model";
import { readNamespace, writeNamespace } from "../names";
import { readToken, writeToken } from "../tokens";
import {
  readLocation,
  readLocationFilter,
  readSubscriptionFilter,
  writeLocation,
  writeLocationFilter,
  writeSubscriptionFilter,
} from "./filters";

const GroupOrderValue = { ascending: 1, descending: 2 } as const;

type Kind = Message["kind"];
type Writable = { -readonly [K in keyof Parameters]: Parameters[K] };

export interface Parameter {
  readonly type: number;
  readonly name: string;
  readonly repeatable?: boolean;
  read(input: ByteReader, into: Writable): void;
  /** One value per instance to write; none: not sent. */
  write(parameters: Parameters): ((out: ByteWriter) => void)[];
}

/** A parameter, and the messages it may appear in: anywhere else it ends the session. */
export type ParameterRow = readonly [Parameter, ...Kind[]];

type IntegerKey = {
  [K in keyof Parameters]-?: NonNullable<Parameters[K]> extends bigint ? K : never;
}[keyof Parameters];

function integer(type: number, name: string, key: IntegerKey): Parameter {
  return {
    type,
    name,
    read: (input, into) => {
      into[key] = input.u64();
    },
    write: (parameters) => {
      const value = parameters[key];
      return value === undefined ? [] : [(out) => out.vi64(value)];
    },
  };
}

/** Only publishers have a use for it: stepped over by its length, and never sent. */
function publishersOnly(type: number, name: string, repeatable = false): Parameter {
  return { type, name, repeatable, read: (input) => void input.bytes(input.uint()), write: () => [] };
}

export const objectDeliveryTimeout = integer(0x02, "OBJECT_DELIVERY_TIMEOUT", "objectDeliveryTimeout");

export const authorizationToken: Parameter = {
  type: 0x03,
  name: "AUTHORIZATION_TOKEN",
  repeatable: true,
  read: (input, into) => {
    into.authorizationTokens = [...(into.authorizationTokens ?? []), readToken(input.bytes(input.uint()))];
  },
  write: ({ authorizationTokens = [] }) =>
    authorizationTokens.map((token) => (out) => out.lengthPrefixed(writeToken(token))),
};

export const rendezvousTimeout = integer(0x04, "RENDEZVOUS_TIMEOUT", "rendezvousTimeout");
export const subgroupDeliveryTimeout = integer(0x06, "SUBGROUP_DELIVERY_TIMEOUT", "subgroupDeliveryTimeout");
export const expires = integer(0x08, "EXPIRES", "expires");

export const largestObject: Parameter = {
  type: 0x09,
  name: "LARGEST_OBJECT",
  read: (input, into) => {
    into.largestObject = readLocation(input);
  },
  write: ({ largestObject: largest }) => (largest ? [(out) => writeLocation(out, largest)] : []),
};

export const fillTimeout = integer(0x0a, "FILL_TIMEOUT", "fillTimeout");

export const forward: Parameter = {
  type: 0x10,
  name: "FORWARD",
  read: (input, into) => {
    const value = input.u8();
    if (value > 1) throw protocolViolation(`FORWARD is ${value}; only 0 and 1 are allowed`);
    into.forward = value === 1;
  },
  write: ({ forward: on }) => (on === undefined ? [] : [(out) => out.u8(on ? 1 : 0)]),
};

export const subscriberPriority: Parameter = {
  type: 0x20,
  name: "SUBSCRIBER_PRIORITY",
  read: (input, into) => {
    into.subscriberPriority = input.u8();
  },
  write: ({ subscriberPriority: priority }) => (priority === undefined ? [] : [(out) => out.u8(priority)]),
};

/** Draft 18's, with a length before it. */
export const subscriptionFilter: Parameter = {
  type: 0x21,
  name: "SUBSCRIPTION_FILTER",
  read: (input, into) => {
    into.filter = readSubscriptionFilter(input.bytes(input.uint()));
  },
  write: ({ filter }) => (filter ? [(out) => out.lengthPrefixed(writeSubscriptionFilter(filter))] : []),
};

/** Since draft 20, with fields that its type tells. */
export const locationFilter: Parameter = {
  type: 0x21,
  name: "LOCATION_FILTER",
  read: (input, into) => {
    into.filter = readLocationFilter(input);
  },
  write: ({ filter }) => (filter ? [(out) => writeLocationFilter(out, filter)] : []),
};

export const groupOrder: Parameter = {
  type: 0x22,
  name: "GROUP_ORDER",
  read: (input, into) => {
    const value = input.u8();
    if (value === GroupOrderValue.ascending) into.groupOrder = "ascending";
    else if (value === GroupOrderValue.descending) into.groupOrder = "descending";
    else throw protocolViolation(`GROUP_ORDER is ${value}; only 1 and 2 are allowed`);
  },
  write: ({ groupOrder: order }) => (order ? [(out) => out.u8(GroupOrderValue[order])] : []),
};

export const fillParameters = publishersOnly(0x23, "FILL_PARAMETERS");
export const subgroupFilter = publishersOnly(0x25, "SUBGROUP_FILTER", true);
export const objectIdFilter = publishersOnly(0x26, "OBJECTID_FILTER", true);
export const priorityFilter = publishersOnly(0x27, "PRIORITY_FILTER", true);
export const objectPropertyFilter = publishersOnly(0x28, "OBJECT_PROPERTY_FILTER", true);
export const trackPropertyFilter = publishersOnly(0x29, "TRACK_PROPERTY_FILTER", true);
export const newGroupRequest = integer(0x32, "NEW_GROUP_REQUEST", "newGroupRequest");

export const trackNamespacePrefix: Parameter = {
  type: 0x34,
  name: "TRACK_NAMESPACE_PREFIX",
  read: (input, into) => {
    into.namespacePrefix = readNamespace(input);
  },
  write: ({ namespacePrefix }) => (namespacePrefix ? [(out) => writeNamespace(out, namespacePrefix)] : []),
};

export const includeProperties: Parameter = {
  type: 0x35,
  name: "INCLUDE_PROPERTIES",
  read: (input, into) => {
    const value = input.u8();
    if (value > 1) throw protocolViolation(`INCLUDE_PROPERTIES is ${value}; only 0 and 1 are allowed`);
    into.includeProperties = value === 1;
  },
  write: ({ includeProperties: on }) => (on === undefined ? [] : [(out) => out.u8(on ? 1 : 0)]),
};

export function readParameters(rows: readonly ParameterRow[], input: ByteReader, kind: Kind): Parameters {
  const parameters: Writable = {};
  const count = input.uint();
  let type = 0n;
  for (let i = 0; i < count; i++) {
    const delta = input.u64();
    type += delta;
    const row = rows.find(([candidate]) => BigInt(candidate.type) === type);
    if (!row) throw protocolViolation(`unknown Message Parameter 0x${type.toString(16)}`);
    const [parameter, ...scope] = row;
    if (!scope.includes(kind)) throw protocolViolation(`${parameter.name} in a ${kind} message`);
    if (i > 0 && delta === 0n && !parameter.repeatable) throw protocolViolation(`${parameter.name} twice`);
    parameter.read(input, parameters);
  }
  return parameters;
}

export function writeParameters(
  rows: readonly ParameterRow[],
  out: ByteWriter,
  parameters: Parameters,
): void {
  const instances = rows.flatMap(([{ type, write }]) => write(parameters).map((value) => ({ type, value })));
  out.vi64(instances.length);
  let previous = 0;
  for (const { type, value } of instances) {
    out.vi64(type - previous);
    previous = type;
    value(out);
  }
}
