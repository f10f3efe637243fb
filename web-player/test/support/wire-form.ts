/** Messages and objects of the player's model, spelled as the vectors spell them. */

import type { Message, MoqtObject, ObjectDatagram, Parameters, SubgroupHeader } from "../../src/moqt/model";
import type { FullTrackName, TrackNamespace } from "../../src/moqt/names";
import type { Property } from "../../src/moqt/properties";
import type { AuthToken } from "../../src/moqt/tokens";
import { unhex } from "./hex";
import type { MessageVector, Pair } from "./vectors";

export type Draft = 18 | 22;
type Fields = Record<string, unknown>;

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const int = (value: bigint | number) => String(value);
const namespace = (fields: TrackNamespace) => fields.map(text);

function track({ namespace: fields, name }: FullTrackName): Fields {
  return { track_namespace: namespace(fields), track_name: text(name) };
}

/** Pairs without names, as objects carry them. */
export function pairs(properties: readonly Property[]): Pair[] {
  return properties.map(({ type, value }) => ({
    type: `0x${type.toString(16)}`,
    ...(typeof value === "bigint" ? { value: int(value) } : { raw_hex: unhex(value) }),
  }));
}

const propertyNames: Readonly<Record<string, string>> = {
  "0x2": "object_delivery_timeout",
  "0x4": "max_cache_duration",
  "0x6": "subgroup_delivery_timeout",
  "0xb": "immutable_properties",
  "0xe": "default_publisher_priority",
  "0x22": "default_publisher_group_order",
  "0x30": "dynamic_groups",
};

function trackProperties(properties: readonly Property[]): Pair[] {
  return pairs(properties).map((pair) => {
    const name = propertyNames[pair.type];
    return name === undefined ? pair : { ...pair, name };
  });
}

function token(value: AuthToken): Fields {
  switch (value.kind) {
    case "delete":
      return { alias_type: "0", token_alias: int(value.alias) };
    case "register":
      return {
        alias_type: "1",
        token_alias: int(value.alias),
        token_type: int(value.type),
        token_value: unhex(value.value),
      };
    case "use-alias":
      return { alias_type: "2", token_alias: int(value.alias) };
    case "use-value":
      return { alias_type: "3", token_type: int(value.type), token_value: unhex(value.value) };
  }
}

type Filter = NonNullable<Parameters["filter"]>;

const start = ({ group, object }: { group: bigint; object: bigint }) => ({
  start_group: int(group),
  start_object: int(object),
});

function subscriptionFilter(value: Filter): Fields {
  switch (value.kind) {
    case "next-group-start":
      return { filter_type: "1" };
    case "largest-object":
      return { filter_type: "2" };
    case "absolute-start":
      return { filter_type: "3", ...start(value.start) };
    case "absolute-range":
      return { filter_type: "4", ...start(value.start), end_group: int(value.endGroup - value.start.group) };
    default:
      throw new Error(`draft 18 has no ${value.kind}`);
  }
}

function locationFilter(value: Filter): Fields {
  switch (value.kind) {
    case "unfiltered":
      return { filter_type: "0" };
    case "next-group-start":
      return { filter_type: "1", start_group: "0" };
    case "relative-start":
      return { filter_type: "1", start_group: int(value.groups) };
    case "absolute-start":
      return { filter_type: "2", ...start(value.start) };
    case "absolute-range":
      return {
        filter_type: "3",
        ...start(value.start),
        end_group_delta: int(value.endGroup - value.start.group),
      };
    case "object-range":
      return {
        filter_type: "4",
        ...start(value.start),
        end_group_delta: int(value.end.group - value.start.group),
        end_object: int(value.end.object),
      };
    case "largest-object":
      return { filter_type: "5" };
  }
}

function parameters(draft: Draft, p: Parameters): Pair[] {
  const all: Pair[] = [];
  const add = <T>(type: number, name: string, value: T | undefined, spell: (value: T) => unknown) => {
    if (value !== undefined) all.push({ type: `0x${type.toString(16)}`, name, value: spell(value) });
  };
  add(0x02, "object_delivery_timeout", p.objectDeliveryTimeout, int);
  for (const value of p.authorizationTokens ?? []) add(0x03, "authorization_token", value, token);
  add(0x04, "rendezvous_timeout", p.rendezvousTimeout, int);
  add(0x06, "subgroup_delivery_timeout", p.subgroupDeliveryTimeout, int);
  add(0x08, "expires", p.expires, int);
  add(0x09, "largest_object", p.largestObject, ({ group, object }) => ({
    group: int(group),
    object: int(object),
  }));
  add(0x0a, "fill_timeout", p.fillTimeout, int);
  add(0x10, "forward", p.forward, (on) => (on ? "1" : "0"));
  add(0x20, "subscriber_priority", p.subscriberPriority, int);
  if (draft === 18) add(0x21, "subscription_filter", p.filter, subscriptionFilter);
  else add(0x21, "location_filter", p.filter, locationFilter);
  add(0x22, "group_order", p.groupOrder, (order) => (order === "ascending" ? "1" : "2"));
  add(0x32, "new_group_request", p.newGroupRequest, int);
  add(0x34, "track_namespace_prefix", p.namespacePrefix, namespace);
  add(0x35, "include_properties", p.includeProperties, (on) => (on ? "1" : "0"));
  return all;
}

/** A message's type and fields. */
export function wireForm(draft: Draft, message: Message): Pick<MessageVector, "type" | "fields"> {
  switch (message.kind) {
    case "setup": {
      const { implementation } = message;
      const named = { type: "0x7", name: "moqt_implementation", value: implementation };
      return { type: "setup", fields: { options: implementation === undefined ? [] : [named] } };
    }
    case "goaway":
      return {
        type: "goaway",
        fields: {
          new_session_uri: message.newSessionUri,
          timeout: int(message.timeout),
          ...(message.requestId !== undefined && { request_id: int(message.requestId) }),
        },
      };
    case "subscribe":
      return {
        type: "subscribe",
        fields: {
          request_id: int(message.requestId),
          ...track(message.track),
          parameters: parameters(draft, message.parameters),
        },
      };
    case "subscribe-ok":
      return {
        type: "subscribe_ok",
        fields: {
          track_alias: int(message.trackAlias),
          parameters: parameters(draft, message.parameters),
          track_properties: trackProperties(message.trackProperties),
        },
      };
    case "request-update":
      return {
        type: "request_update",
        fields: { request_id: int(message.requestId), parameters: parameters(draft, message.parameters) },
      };
    case "request-ok":
      return {
        type: "request_ok",
        fields: {
          parameters: parameters(draft, message.parameters),
          track_properties: trackProperties(message.trackProperties),
        },
      };
    case "request-error": {
      const { redirect } = message;
      return {
        type: "request_error",
        fields: {
          error_code: int(message.code),
          retry_interval: int(message.retryAfter === undefined ? 0n : message.retryAfter + 1n),
          reason_phrase: message.reason,
          ...(redirect && { redirect: { connect_uri: redirect.connectUri, ...track(redirect.track) } }),
        },
      };
    }
    case "track-status":
      return {
        type: "track_status",
        fields: {
          request_id: int(message.requestId),
          ...track(message.track),
          parameters: parameters(draft, message.parameters),
        },
      };
    case "publish":
      return {
        type: "publish",
        fields: {
          request_id: int(message.requestId),
          ...track(message.track),
          track_alias: int(message.trackAlias),
          parameters: parameters(draft, message.parameters),
          track_properties: trackProperties(message.trackProperties),
        },
      };
    case "publish-done":
      return {
        type: "publish_done",
        fields: {
          status_code: int(message.code),
          stream_count: int(message.streamCount),
          reason_phrase: message.reason,
        },
      };
    case "publish-state-notify":
      return { type: "publish_state_notify", fields: { parameters: parameters(draft, message.parameters) } };
    case "foreign-request":
      return { type: message.name.toLowerCase(), fields: {} };
  }
}

const statusCodes = { normal: "0", "end-of-group": "3", "end-of-track": "4" } as const;

export function subgroupHeader(header: SubgroupHeader): Fields {
  return {
    track_alias: int(header.trackAlias),
    group_id: int(header.group),
    ...(header.subgroup !== undefined && { subgroup_id: int(header.subgroup) }),
    ...(header.priority !== undefined && { publisher_priority: int(header.priority) }),
    properties: header.hasProperties,
    end_of_group: header.endOfGroup,
    first_object: header.firstObject,
  };
}

export function subgroupObject({ object, properties, status, payload }: MoqtObject): Fields {
  return {
    object_id: int(object),
    properties: pairs(properties),
    object_status: statusCodes[status],
    payload: unhex(payload),
  };
}

/** Without its priority, which the player has no use for; with both status and payload. */
export function datagram({ trackAlias, group, endOfGroup, object }: ObjectDatagram): Fields {
  return {
    track_alias: int(trackAlias),
    group_id: int(group),
    end_of_group: endOfGroup,
    ...subgroupObject(object),
  };
}
