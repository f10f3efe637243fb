/**
 * What is said, whatever draft it is said in: the version-neutral messages and objects that the session
 * works with. A codec per draft turns them into bytes and back.
 */

import type { FullTrackName, TrackNamespace } from "./names";
import type { Property } from "./properties";
import type { AuthToken } from "./tokens";

export interface Location {
  readonly group: bigint;
  readonly object: bigint;
}

export type GroupOrder = "ascending" | "descending";

/** Which objects a subscription passes; absent: all that are published or cached from now on. */
export type SubscriptionFilter =
  | { readonly kind: "largest-object" }
  | { readonly kind: "next-group-start" }
  | { readonly kind: "absolute-start"; readonly start: Location }
  | { readonly kind: "absolute-range"; readonly start: Location; readonly endGroup: bigint }
  // These since draft 20 only.
  | { readonly kind: "unfiltered" }
  | { readonly kind: "relative-start"; readonly groups: bigint }
  | { readonly kind: "object-range"; readonly start: Location; readonly end: Location };

/** Message Parameters, by what they mean. Durations in milliseconds. */
export interface Parameters {
  readonly authorizationTokens?: readonly AuthToken[];
  readonly objectDeliveryTimeout?: bigint;
  readonly subgroupDeliveryTimeout?: bigint;
  readonly rendezvousTimeout?: bigint;
  readonly expires?: bigint;
  readonly largestObject?: Location;
  readonly fillTimeout?: bigint;
  readonly forward?: boolean;
  readonly subscriberPriority?: number;
  readonly filter?: SubscriptionFilter;
  readonly groupOrder?: GroupOrder;
  readonly newGroupRequest?: bigint;
  readonly namespacePrefix?: TrackNamespace;
  readonly includeProperties?: boolean;
}

export interface Setup {
  readonly kind: "setup";
  /** Name and version of the sender's software, when it says. */
  readonly implementation?: string;
}

export interface GoAway {
  readonly kind: "goaway";
  /** Where to go; empty: the same address again. */
  readonly newSessionUri: string;
  /** Milliseconds until the sender closes; 0: no promise. */
  readonly timeout: bigint;
  /** Only on the control stream: the first request that was not processed. */
  readonly requestId?: bigint;
}

export interface Subscribe {
  readonly kind: "subscribe";
  readonly requestId: bigint;
  readonly track: FullTrackName;
  readonly parameters: Parameters;
}

export interface SubscribeOk {
  readonly kind: "subscribe-ok";
  readonly trackAlias: bigint;
  readonly parameters: Parameters;
  readonly trackProperties: readonly Property[];
}

export interface RequestUpdate {
  readonly kind: "request-update";
  readonly requestId: bigint;
  readonly parameters: Parameters;
}

export interface RequestOk {
  readonly kind: "request-ok";
  readonly parameters: Parameters;
  readonly trackProperties: readonly Property[];
}

export interface Redirect {
  readonly connectUri: string;
  readonly track: FullTrackName;
}

export interface RequestError {
  readonly kind: "request-error";
  readonly code: number;
  /** Milliseconds to wait before asking again; absent: asking again is not worth it. */
  readonly retryAfter?: bigint;
  readonly reason: string;
  readonly redirect?: Redirect;
}

/** Asks what a SUBSCRIBE would be answered with, and for no objects. */
export interface TrackStatus {
  readonly kind: "track-status";
  readonly requestId: bigint;
  readonly track: FullTrackName;
  readonly parameters: Parameters;
}

/** The sender has a track that the receiver may want. */
export interface Publish {
  readonly kind: "publish";
  readonly requestId: bigint;
  readonly track: FullTrackName;
  readonly trackAlias: bigint;
  readonly parameters: Parameters;
  readonly trackProperties: readonly Property[];
}

export interface PublishDone {
  readonly kind: "publish-done";
  readonly code: number;
  readonly streamCount: bigint;
  readonly reason: string;
}

/** The publisher changed these by itself. */
export interface PublishStateNotify {
  readonly kind: "publish-state-notify";
  readonly parameters: Parameters;
}

/** A request that only publishers and relays get; a player answers that it does not serve it. */
export interface ForeignRequest {
  readonly kind: "foreign-request";
  readonly name: string;
}

export type Message =
  | Setup
  | GoAway
  | Subscribe
  | SubscribeOk
  | RequestUpdate
  | RequestOk
  | RequestError
  | TrackStatus
  | Publish
  | PublishDone
  | PublishStateNotify
  | ForeignRequest;

/** The head of a subgroup stream. */
export interface SubgroupHeader {
  readonly trackAlias: bigint;
  readonly group: bigint;
  /** Absent when it is the first object's ID, which comes later. */
  readonly subgroup?: bigint;
  /** Absent: the track's default. */
  readonly priority?: number;
  readonly hasProperties: boolean;
  readonly endOfGroup: boolean;
  readonly firstObject: boolean;
}

export type ObjectStatus = "normal" | "end-of-group" | "end-of-track";

/** An object as it came off a stream or out of a datagram. */
export interface MoqtObject {
  readonly object: number;
  readonly status: ObjectStatus;
  readonly properties: readonly Property[];
  readonly payload: Uint8Array;
}

export interface ObjectDatagram {
  readonly trackAlias: bigint;
  readonly group: bigint;
  readonly endOfGroup: boolean;
  readonly object: MoqtObject;
}
