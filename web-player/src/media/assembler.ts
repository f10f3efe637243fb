/**
 * Puts the objects of one track back in order. They come on one stream per group and subgroup, each in
 * order, all racing each other; a decoder wants them by group, and by object ID within the group.
 *
 * Rules, for a track whose objects depend on each other (video):
 * - An object may depend on earlier objects of its own and of lower subgroups. So it waits for those as
 *   long as they may still come, and is dropped when they were cut.
 * - A missing object of a higher subgroup is waited for no longer than `layerWaitMs`, then skipped.
 * - A group plays from object 0 or not at all.
 * - A newer group takes over once the current one is finished, or held it up for `groupWaitMs`; when only
 *   a higher subgroup is unfinished, for `layerWaitMs`.
 * - Higher subgroups that come too late for too long are given up, and those of some groups to come.
 * Where every object stands alone (audio), nothing is dropped for what is missing before it.
 *
 * Sans-IO: `handle*` takes events in with the time they happened, `pollObject` gives objects out, then
 * `pollAbandoned` the streams that nobody needs any more, then `pollTimeout` says when to poll again.
 */

import type { MoqtObject, ObjectDatagram } from "../moqt/model";
import type { SubgroupStream } from "../moqt/subscription";
import { SpareLayers } from "./spare-layers";

export interface AssembledObject {
  readonly group: bigint;
  readonly object: MoqtObject;
  /** When its last byte came, milliseconds. */
  readonly arrivedAt: number;
}

export interface AssemblerOptions {
  /** Objects can be decoded alone. */
  readonly independent: boolean;
  layerWaitMs(): number;
  groupWaitMs(): number;
}

interface Waiting {
  readonly object: MoqtObject;
  readonly subgroup: bigint;
  readonly arrivedAt: number;
}

interface SubgroupState {
  readonly streams: Set<SubgroupStream>;
  /** Largest object ID that came, -1 for none. */
  last: number;
  /** Ended before its end. */
  cut: boolean;
}

interface GroupState {
  readonly group: bigint;
  readonly waiting: Map<number, Waiting>;
  readonly subgroups: Map<bigint, SubgroupState>;
  /** Subgroups above the base are not wanted. */
  baseOnly: boolean;
  /** The next object ID to give out. */
  next: number;
  /** When object 0 came. */
  headAt: number | undefined;
  /** No object from this ID on exists. */
  end: number;
}

/** Objects in datagrams belong to no subgroup; here they form one below all others. */
const DATAGRAMS = -1n;
const MAX_GROUPS = 16;
const MAX_WAITING_BYTES = 48 * 1024 * 1024;
/** Only older groups for so long: the publisher started counting anew. */
const REGRESSION_MS = 2000;

export class GroupAssembler {
  readonly #options: AssemblerOptions;
  readonly #groups = new Map<bigint, GroupState>();
  readonly #abandoned: SubgroupStream[] = [];
  readonly #spareLayers = new SpareLayers();
  #current: bigint | undefined;
  #expectedSubgroups = 1;
  #waitingBytes = 0;
  #lastArrival = Number.NEGATIVE_INFINITY;
  #timeout: number | undefined;

  constructor(options: AssemblerOptions) {
    this.#options = options;
  }

  handleSubgroupOpen(stream: SubgroupStream, now: number): void {
    const group = this.#groupFor(stream.header.group, now);
    if (!group) {
      this.#abandoned.push(stream);
      return;
    }
    if (isRefused(group, stream)) {
      subgroupOf(group, stream.header.subgroup ?? 0n).cut = true;
      this.#abandoned.push(stream);
      return;
    }
    // A subgroup named by its first object is known by that object; until then it counts as base layer.
    subgroupOf(group, stream.header.subgroup ?? 0n).streams.add(stream);
  }

  handleSubgroupObject(stream: SubgroupStream, object: MoqtObject, now: number): void {
    const group = this.#groups.get(stream.header.group);
    if (!group || isRefused(group, stream)) return;
    this.#rename(group, stream);
    const id = stream.header.subgroup ?? 0n;
    const subgroup = subgroupOf(group, id);
    if (subgroup.cut) {
      // Another stream goes on with it: without a gap all is well, behind one nothing can be used.
      if (object.object === subgroup.last + 1) subgroup.cut = false;
      else if (!this.#options.independent) return;
    }
    subgroup.last = Math.max(subgroup.last, object.object);
    const late = object.object < group.next;
    this.#take(group, object, id, now);
    const spare = !this.#options.independent && id > 0n;
    if (spare && this.#spareLayers.handleObject(late, now)) this.#giveUpSpareLayers(group);
  }

  handleSubgroupEnd(stream: SubgroupStream, fin: boolean): void {
    const group = this.#groups.get(stream.header.group);
    if (!group) return;
    const id = stream.header.subgroup ?? 0n;
    const subgroup = subgroupOf(group, id);
    if (!subgroup.streams.delete(stream)) return;
    if (!fin && subgroup.streams.size === 0) subgroup.cut = true;
    if (!this.#options.independent && id > 0n && !group.baseOnly) {
      if (fin) this.#spareLayers.handleWhole();
      else if (subgroup.cut) {
        this.#spareLayers.handleCut();
        this.#giveUpSpareLayers(group);
      }
    }
    if (fin && stream.header.endOfGroup) group.end = Math.min(group.end, subgroup.last + 1);
  }

  handleDatagram({ group: id, object, endOfGroup }: ObjectDatagram, now: number): void {
    const group = this.#groupFor(id, now);
    if (!group) return;
    if (endOfGroup) group.end = Math.min(group.end, object.object + 1);
    this.#take(group, object, DATAGRAMS, now);
  }

  /** The next object in order, if it is its turn. */
  pollObject(now: number): AssembledObject | undefined {
    this.#timeout = undefined;
    for (;;) {
      const group = this.#currentGroup();
      if (!group) return undefined;
      const object = this.#pollGroup(group, now);
      if (object) return object;
      if (!this.#mayLeave(group, now)) return undefined;
      this.#leave(group);
    }
  }

  /** After `pollObject` gave nothing: when something may come of polling again without new input. */
  pollTimeout(): number | undefined {
    return this.#timeout;
  }

  /** A stream to cancel. */
  pollAbandoned(): SubgroupStream | undefined {
    return this.#abandoned.shift();
  }

  #groupFor(id: bigint, now: number): GroupState | undefined {
    const known = this.#groups.get(id);
    if (known) return known;
    if (this.#current !== undefined && id < this.#current) {
      if (now - this.#lastArrival < REGRESSION_MS) return undefined;
      for (const group of [...this.#groups.values()]) this.#discard(group);
      this.#current = undefined;
    }
    const group: GroupState = {
      group: id,
      waiting: new Map(),
      subgroups: new Map(),
      baseOnly: !this.#options.independent && !this.#spareLayers.handleGroup(),
      next: 0,
      headAt: undefined,
      end: Number.POSITIVE_INFINITY,
    };
    this.#groups.set(id, group);
    this.#enforceBounds();
    return this.#groups.get(id);
  }

  #take(group: GroupState, object: MoqtObject, subgroup: bigint, now: number): void {
    this.#lastArrival = now;
    if (object.status !== "normal") {
      group.end = Math.min(group.end, object.object);
      return;
    }
    if (object.object < group.next || group.waiting.has(object.object)) return;
    if (group.headAt === undefined && (object.object === 0 || this.#options.independent)) group.headAt = now;
    group.waiting.set(object.object, { object, subgroup, arrivedAt: now });
    this.#waitingBytes += object.payload.byteLength;
    this.#enforceBounds();
  }

  #giveUpSpareLayers(group: GroupState): void {
    group.baseOnly = true;
    for (const [id, state] of group.subgroups) {
      if (id <= 0n) continue;
      this.#abandoned.push(...state.streams);
      state.streams.clear();
      state.cut = true;
    }
  }

  /** How many subgroups there may be. */
  #expected(group: GroupState): number {
    return group.baseOnly ? 1 : this.#expectedSubgroups;
  }

  /** A stream whose Subgroup ID became known only with its first object moves to that subgroup. */
  #rename(group: GroupState, stream: SubgroupStream): void {
    const id = stream.header.subgroup ?? 0n;
    if (subgroupOf(group, id).streams.has(stream)) return;
    for (const [provisional, state] of group.subgroups) {
      if (state.streams.delete(stream) && state.streams.size === 0 && state.last < 0) {
        group.subgroups.delete(provisional);
      }
    }
    subgroupOf(group, id).streams.add(stream);
  }

  /** Groups play in ascending order: the oldest that is here. */
  #currentGroup(): GroupState | undefined {
    let oldest: GroupState | undefined;
    for (const group of this.#groups.values()) if (!oldest || group.group < oldest.group) oldest = group;
    return oldest;
  }

  #pollGroup(group: GroupState, now: number): AssembledObject | undefined {
    for (;;) {
      const id = smallestKey(group.waiting);
      if (id === undefined) return undefined;
      const waiting = group.waiting.get(id);
      if (!waiting) return undefined;
      const verdict = id === group.next ? "give" : this.#judgeGap(group, id, waiting, now);
      if (verdict === "wait") return undefined;
      group.waiting.delete(id);
      this.#waitingBytes -= waiting.object.payload.byteLength;
      if (verdict === "drop" || this.#lostItsBase(group, id, waiting)) continue;
      group.next = id + 1;
      this.#current = group.group;
      return { group: group.group, object: waiting.object, arrivedAt: waiting.arrivedAt };
    }
  }

  /** Objects are missing before `id`: what to do with it. */
  #judgeGap(group: GroupState, id: number, waiting: Waiting, now: number): "give" | "wait" | "drop" {
    let mayFill = group.subgroups.size < this.#expected(group);
    for (const [subgroup, state] of group.subgroups) {
      if (state.streams.size === 0 || state.last >= id) continue;
      // What this object depends on is still on its way.
      if (!this.#options.independent && subgroup < waiting.subgroup) return "wait";
      mayFill = true;
    }
    if (!this.#options.independent && group.next === 0) {
      // Object 0 decides whether the group plays; only a stream that is yet to bring it helps.
      return mayFill ? "wait" : "drop";
    }
    if (!mayFill) return "give";
    const deadline = waiting.arrivedAt + this.#options.layerWaitMs();
    if (now >= deadline) return "give";
    this.#wakeAt(deadline);
    return "wait";
  }

  #lostItsBase(group: GroupState, id: number, waiting: Waiting): boolean {
    if (this.#options.independent) return false;
    for (const [subgroup, state] of group.subgroups) {
      if (state.cut && state.last < id && subgroup <= waiting.subgroup) return true;
    }
    return false;
  }

  /** Nothing more can be given out of `group` now: is it over, or has it held a newer one up too long? */
  #mayLeave(group: GroupState, now: number): boolean {
    const headAt = this.#nextHeadAt(group);
    if (headAt === undefined) return false;
    if (this.#isOver(group)) return true;
    const deadline =
      headAt + (this.#isHeldUp(group) ? this.#options.groupWaitMs() : this.#options.layerWaitMs());
    if (now >= deadline) return true;
    this.#wakeAt(deadline);
    return false;
  }

  /**
   * Whether streams are open that the rest of the group hangs on. Otherwise only a higher layer can still
   * be missing, or what races on other paths.
   */
  #isHeldUp(group: GroupState): boolean {
    const base = this.#options.independent ? undefined : group.subgroups.get(0n);
    const states = base ? [base] : [...group.subgroups.values()];
    return states.some(({ streams }) => streams.size > 0);
  }

  /** When the first playable group after `group` began. */
  #nextHeadAt(group: GroupState): number | undefined {
    let next: GroupState | undefined;
    for (const candidate of this.#groups.values()) {
      if (candidate.group <= group.group || candidate.headAt === undefined) continue;
      if (!next || candidate.group < next.group) next = candidate;
    }
    return next?.headAt;
  }

  #isOver(group: GroupState): boolean {
    if (group.next >= group.end) return true;
    const states = [...group.subgroups.values()];
    if (!this.#options.independent) {
      if (group.subgroups.get(0n)?.cut) return true;
      // Its streams began after object 0, which nobody is left to bring.
      if (group.headAt === undefined && states.length > 0 && states.every(({ last }) => last >= 0))
        return true;
    }
    return states.length >= this.#expected(group) && states.every((state) => state.streams.size === 0);
  }

  /** Moves on: from here on everything up to `group` is too late. */
  #leave(group: GroupState): void {
    if (!group.baseOnly) this.#expectedSubgroups = Math.max(1, group.subgroups.size);
    this.#discard(group);
    this.#current = group.group + 1n;
  }

  #discard(group: GroupState): void {
    for (const { object } of group.waiting.values()) this.#waitingBytes -= object.payload.byteLength;
    for (const { streams } of group.subgroups.values()) this.#abandoned.push(...streams);
    this.#groups.delete(group.group);
  }

  #enforceBounds(): void {
    while (
      this.#groups.size > 1 &&
      (this.#groups.size > MAX_GROUPS || this.#waitingBytes > MAX_WAITING_BYTES)
    ) {
      const oldest = this.#currentGroup();
      if (oldest) this.#leave(oldest);
    }
    // One group alone holds too much that can't be used: nothing of it will be.
    const [only] = this.#groups.values();
    if (only && this.#waitingBytes > MAX_WAITING_BYTES) this.#leave(only);
  }

  #wakeAt(time: number): void {
    if (this.#timeout === undefined || time < this.#timeout) this.#timeout = time;
  }
}

function isRefused(group: GroupState, stream: SubgroupStream): boolean {
  return group.baseOnly && (stream.header.subgroup ?? 0n) > 0n;
}

function subgroupOf(group: GroupState, id: bigint): SubgroupState {
  let state = group.subgroups.get(id);
  if (!state) {
    state = { streams: new Set(), last: -1, cut: false };
    group.subgroups.set(id, state);
  }
  return state;
}

function smallestKey(map: ReadonlyMap<number, unknown>): number | undefined {
  let smallest: number | undefined;
  for (const key of map.keys()) if (smallest === undefined || key < smallest) smallest = key;
  return smallest;
}
