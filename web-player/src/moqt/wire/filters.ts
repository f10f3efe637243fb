/** Which objects a subscription passes, as draft 18 and as later drafts write it ("Subscription Filters"). */

import { ByteReader, ByteWriter } from "../bytes";
import { protocolViolation, SessionCode, SessionError } from "../errors";
import type { Location, SubscriptionFilter } from "../model";

const FilterType = { NEXT_GROUP_START: 1, LARGEST_OBJECT: 2, ABSOLUTE_START: 3, ABSOLUTE_RANGE: 4 } as const;
const LocationFilterType = {
  UNFILTERED: 0,
  RELATIVE_START: 1,
  ABSOLUTE_START: 2,
  ABSOLUTE_RANGE: 3,
  OBJECT_RANGE: 4,
  LARGEST_OBJECT: 5,
} as const;
const MAX_U64 = (1n << 64n) - 1n;

export function readLocation(input: ByteReader): Location {
  return { group: input.u64(), object: input.u64() };
}

export function writeLocation(out: ByteWriter, { group, object }: Location): void {
  out.vi64(group).vi64(object);
}

/** The last group, which is sent as the difference to the first. */
function readEndGroup(input: ByteReader, start: Location): bigint {
  const endGroup = start.group + input.u64();
  if (endGroup > MAX_U64) throw protocolViolation("a filter that ends above group 2^64 - 1");
  return endGroup;
}

/** Draft 18's; `bytes` hold nothing else. */
export function readSubscriptionFilter(bytes: Uint8Array): SubscriptionFilter {
  const input = new ByteReader(bytes);
  const filter = readSubscriptionFields(input);
  if (input.remaining > 0) {
    const message = "a Subscription Filter has bytes after its last field";
    throw new SessionError(SessionCode.KEY_VALUE_FORMATTING_ERROR, message);
  }
  return filter;
}

function readSubscriptionFields(input: ByteReader): SubscriptionFilter {
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
      return { kind: "absolute-range", start, endGroup: readEndGroup(input, start) };
    }
    default:
      throw protocolViolation(`Subscription Filter type ${type} does not exist`);
  }
}

export function writeSubscriptionFilter(filter: SubscriptionFilter): Uint8Array {
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
    default:
      throw new RangeError(`draft 18 has no filter of the kind ${filter.kind}`);
  }
  return out.finish();
}

/** Since draft 20: the type says which fields follow. */
export function readLocationFilter(input: ByteReader): SubscriptionFilter {
  const type = input.uint();
  switch (type) {
    case LocationFilterType.UNFILTERED:
      return { kind: "unfiltered" };
    case LocationFilterType.RELATIVE_START: {
      const groups = input.u64();
      return groups === 0n ? { kind: "next-group-start" } : { kind: "relative-start", groups };
    }
    case LocationFilterType.ABSOLUTE_START:
      return { kind: "absolute-start", start: readLocation(input) };
    case LocationFilterType.ABSOLUTE_RANGE: {
      const start = readLocation(input);
      return { kind: "absolute-range", start, endGroup: readEndGroup(input, start) };
    }
    case LocationFilterType.OBJECT_RANGE: {
      const start = readLocation(input);
      return { kind: "object-range", start, end: { group: readEndGroup(input, start), object: input.u64() } };
    }
    case LocationFilterType.LARGEST_OBJECT:
      return { kind: "largest-object" };
    default:
      throw protocolViolation(`Location Filter type ${type} does not exist`);
  }
}

export function writeLocationFilter(out: ByteWriter, filter: SubscriptionFilter): void {
  switch (filter.kind) {
    case "unfiltered":
      out.vi64(LocationFilterType.UNFILTERED);
      break;
    case "next-group-start":
      out.vi64(LocationFilterType.RELATIVE_START).vi64(0);
      break;
    case "relative-start":
      out.vi64(LocationFilterType.RELATIVE_START).vi64(filter.groups);
      break;
    case "absolute-start":
      out.vi64(LocationFilterType.ABSOLUTE_START);
      writeLocation(out, filter.start);
      break;
    case "absolute-range":
      out.vi64(LocationFilterType.ABSOLUTE_RANGE);
      writeLocation(out, filter.start);
      out.vi64(filter.endGroup - filter.start.group);
      break;
    case "object-range":
      out.vi64(LocationFilterType.OBJECT_RANGE);
      writeLocation(out, filter.start);
      out.vi64(filter.end.group - filter.start.group).vi64(filter.end.object);
      break;
    case "largest-object":
      out.vi64(LocationFilterType.LARGEST_OBJECT);
  }
}
