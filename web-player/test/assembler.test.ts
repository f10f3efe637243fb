import { describe, expect, test } from "vitest";
import { GroupAssembler } from "../src/media/assembler";
import type { MoqtObject, SubgroupHeader } from "../src/moqt/model";
import type { SubgroupStream } from "../src/moqt/subscription";
import { seeded } from "./support/random";

const LAYER_WAIT = 20;
const GROUP_WAIT = 100;

class Fixture {
  now = 0;
  readonly cancelled: string[] = [];
  readonly assembler: GroupAssembler;

  constructor(independent = false) {
    this.assembler = new GroupAssembler({
      independent,
      layerWaitMs: () => LAYER_WAIT,
      groupWaitMs: () => GROUP_WAIT,
    });
  }

  open(group: number, subgroup = 0, header: Partial<SubgroupHeader> = {}): SubgroupStream {
    const stream: SubgroupStream = {
      header: {
        trackAlias: 1n,
        group: BigInt(group),
        subgroup: BigInt(subgroup),
        hasProperties: false,
        endOfGroup: false,
        firstObject: true,
        ...header,
      },
      cancel: () => undefined,
    };
    this.assembler.handleSubgroupOpen(stream, this.now);
    return stream;
  }

  put(stream: SubgroupStream, ...ids: number[]): void {
    for (const id of ids) this.assembler.handleSubgroupObject(stream, object(id), this.now);
  }

  end(stream: SubgroupStream, fin = true): void {
    this.assembler.handleSubgroupEnd(stream, fin);
  }

  /** What can be given out now, as "group/object". */
  out(): string[] {
    const given: string[] = [];
    for (let next = this.assembler.pollObject(this.now); next; next = this.assembler.pollObject(this.now)) {
      given.push(`${next.group}/${next.object.object}`);
    }
    for (let stream = this.assembler.pollAbandoned(); stream; stream = this.assembler.pollAbandoned()) {
      this.cancelled.push(`${stream.header.group}:${stream.header.subgroup}`);
    }
    return given;
  }
}

function object(id: number, size = 10, status: MoqtObject["status"] = "normal"): MoqtObject {
  return { object: id, status, properties: [], payload: new Uint8Array(size) };
}

describe("one subgroup per group", () => {
  test("objects pass straight through, group after group", () => {
    const f = new Fixture();
    const first = f.open(7);
    f.put(first, 0, 1);
    expect(f.out()).toEqual(["7/0", "7/1"]);
    f.put(first, 2);
    expect(f.out()).toEqual(["7/2"]);
    f.end(first);
    f.put(f.open(8), 0);
    expect(f.out()).toEqual(["8/0"]);
  });

  test("IDs that are left out don't hold anything up", () => {
    const f = new Fixture();
    f.put(f.open(1), 0, 2, 5);
    expect(f.out()).toEqual(["1/0", "1/2", "1/5"]);
  });

  test("a group whose beginning is missing is not played, and holds nothing up", () => {
    const f = new Fixture();
    f.put(f.open(1), 3, 4);
    expect(f.out()).toEqual([]);
    f.put(f.open(2), 0);
    expect(f.out()).toEqual(["2/0"]);
    expect(f.cancelled).toEqual(["1:0"]);
  });

  test("a newer group waits while the current one may still deliver", () => {
    const f = new Fixture();
    const old = f.open(1);
    f.put(old, 0);
    f.out();
    f.put(f.open(2), 0, 1);
    expect(f.out()).toEqual([]);
    expect(f.assembler.pollTimeout()).toBe(GROUP_WAIT);
    f.now = GROUP_WAIT - 1;
    f.put(old, 1);
    f.end(old);
    expect(f.out()).toEqual(["1/1", "2/0", "2/1"]);
  });

  test("it doesn't wait longer than it was told, and cancels what it gave up", () => {
    const f = new Fixture();
    const old = f.open(1);
    f.put(old, 0);
    f.out();
    f.put(f.open(2), 0);
    f.out();
    f.now = GROUP_WAIT;
    expect(f.out()).toEqual(["2/0"]);
    expect(f.cancelled).toEqual(["1:0"]);
    f.put(old, 1);
    expect(f.out()).toEqual([]);
  });

  test("a cut group gives way at once", () => {
    const f = new Fixture();
    const old = f.open(1);
    f.put(old, 0, 1);
    f.out();
    f.end(old, false);
    f.put(f.open(2), 0);
    expect(f.out()).toEqual(["2/0"]);
  });

  test("a subgroup may go on in another stream after a reset, without a gap", () => {
    const f = new Fixture();
    const cut = f.open(1);
    f.put(cut, 0, 1);
    f.end(cut, false);
    f.put(f.open(1), 2, 3);
    expect(f.out()).toEqual(["1/0", "1/1", "1/2", "1/3"]);
  });

  test("what lies behind a gap after a reset is not decodable, and dropped", () => {
    const f = new Fixture();
    const cut = f.open(1);
    f.put(cut, 0, 1);
    f.end(cut, false);
    f.put(f.open(1), 4, 5);
    expect(f.out()).toEqual(["1/0", "1/1"]);
  });

  test("an older group that comes late is refused", () => {
    const f = new Fixture();
    f.put(f.open(5), 0);
    f.out();
    f.put(f.open(4), 0);
    expect(f.out()).toEqual([]);
    expect(f.cancelled).toEqual(["4:0"]);
  });

  test("a publisher that starts counting anew is followed after a while", () => {
    const f = new Fixture();
    f.put(f.open(1000), 0);
    f.out();
    f.now = 2500;
    f.put(f.open(0), 0);
    expect(f.out()).toEqual(["0/0"]);
  });

  test("END_OF_GROUP ends a group whose stream stays open", () => {
    const f = new Fixture();
    const old = f.open(1);
    f.put(old, 0);
    f.assembler.handleSubgroupObject(old, object(1, 0, "end-of-group"), 0);
    f.put(f.open(2), 0);
    expect(f.out()).toEqual(["1/0", "2/0"]);
  });

  test("the same object twice comes out once", () => {
    const f = new Fixture();
    const stream = f.open(1);
    f.put(stream, 0, 0, 1);
    expect(f.out()).toEqual(["1/0", "1/1"]);
    f.put(stream, 1);
    expect(f.out()).toEqual([]);
  });

  test("memory is bounded: what can't be used goes", () => {
    const f = new Fixture();
    for (let group = 0; group < 100; group++) {
      const stream = f.open(group);
      f.assembler.handleSubgroupObject(stream, object(1, 1024 * 1024), 0);
    }
    f.out();
    expect(f.cancelled.length).toBeGreaterThanOrEqual(84);
    const endless = new Fixture();
    const late = endless.open(1, 1);
    endless.open(1, 0);
    for (let id = 1; id < 100; id++) endless.assembler.handleSubgroupObject(late, object(id, 1024 * 1024), 0);
    endless.out();
    expect(endless.cancelled).toContain("1:1");
  });
});

describe("two layers in two subgroups", () => {
  /** Base objects are even, the layer above has the odd ones. */
  function layered() {
    const f = new Fixture();
    return { f, base: f.open(1, 0), upper: f.open(1, 1) };
  }

  test("are joined by Object ID", () => {
    const { f, base, upper } = layered();
    f.put(base, 0);
    f.put(upper, 1);
    f.put(base, 2);
    f.put(upper, 3);
    expect(f.out()).toEqual(["1/0", "1/1", "1/2", "1/3"]);
  });

  test("the upper layer waits for the base without limit", () => {
    const { f, base, upper } = layered();
    f.put(base, 0);
    f.put(upper, 1, 3);
    expect(f.out()).toEqual(["1/0", "1/1"]);
    f.now = 10_000;
    expect(f.out()).toEqual([]);
    f.put(base, 2);
    expect(f.out()).toEqual(["1/2", "1/3"]);
  });

  test("the base waits for the upper layer only briefly", () => {
    const { f, base, upper } = layered();
    f.put(base, 0, 2);
    expect(f.out()).toEqual(["1/0"]);
    expect(f.assembler.pollTimeout()).toBe(LAYER_WAIT);
    f.now = LAYER_WAIT;
    expect(f.out()).toEqual(["1/2"]);
    f.put(upper, 1, 3);
    expect(f.out()).toEqual(["1/3"]);
  });

  test("a layer that has gone past an ID doesn't hold it up", () => {
    const { f, base, upper } = layered();
    f.put(base, 0);
    f.put(upper, 5);
    f.put(base, 4);
    expect(f.out()).toEqual(["1/0", "1/4", "1/5"]);
  });

  test("when the upper layer is cut, the base goes on alone", () => {
    const { f, base, upper } = layered();
    f.put(base, 0);
    f.put(upper, 1);
    f.end(upper, false);
    f.put(base, 2, 4);
    expect(f.out()).toEqual(["1/0", "1/1", "1/2", "1/4"]);
  });

  test("when the base is cut, what came of the upper layer after it is dropped", () => {
    const { f, base, upper } = layered();
    f.put(base, 0);
    f.put(upper, 1);
    f.end(base, false);
    f.put(upper, 3);
    expect(f.out()).toEqual(["1/0"]);
  });

  test("every gap costs the base no more than the short wait, however far behind the upper layer is", () => {
    const { f, base, upper } = layered();
    f.put(base, 0);
    f.put(upper, 1);
    f.out();
    // From here on the upper layer comes 500 ms late, each of its objects long after its place was passed.
    for (let id = 2; id < 40; id += 2) {
      f.now += 66;
      f.put(base, id);
      if (id > 16) f.put(upper, id - 15);
      const early = f.out();
      expect(f.assembler.pollTimeout(), `object ${id}`).toBe(
        early.length > 0 ? undefined : f.now + LAYER_WAIT,
      );
      f.now += LAYER_WAIT;
      expect([...early, ...f.out()]).toEqual([`1/${id}`]);
    }
  });

  test("one that is behind for a moment catches up, and counts again", () => {
    const { f, base, upper } = layered();
    f.put(base, 0);
    f.put(upper, 1);
    f.put(base, 2, 4, 6);
    f.out();
    f.now = LAYER_WAIT;
    expect(f.out()).toEqual(["1/4", "1/6"]);
    f.now += 100;
    f.put(upper, 3, 5, 7);
    expect(f.out()).toEqual(["1/7"]);
    expect(f.cancelled).toEqual([]);
  });

  describe("of which the upper one is always late", () => {
    /** A group of a second whose upper objects come `late` ms after their time. Is it cancelled, and at once? */
    function playGroup(f: Fixture, group: number, late: number) {
      const [base, upper] = [f.open(group, 0), f.open(group, 1)];
      const given: string[] = [];
      const start = f.now;
      given.push(...f.out());
      const cancelled = () => f.cancelled.includes(`${group}:1`);
      const refused = cancelled();
      const arrivals = Array.from({ length: 30 }, (_, id) => ({
        id,
        at: start + id * 33 + (id % 2 === 1 ? late : 0),
      }));
      for (const { id, at } of arrivals.toSorted((a, b) => a.at - b.at)) {
        f.now = at;
        given.push(...f.out());
        const due = f.assembler.pollTimeout();
        f.put(id % 2 === 1 ? upper : base, id);
        if (id === 28) f.end(base);
        if (id === 29) f.end(upper);
        if (due !== undefined) f.now = Math.max(at, due);
        given.push(...f.out());
      }
      f.now = Math.max(f.now, start + 1000);
      given.push(...f.out());
      const of = given.filter((entry) => entry.startsWith(`${group}/`));
      expect(of.filter((entry) => Number(entry.split("/")[1]) % 2 === 0)).toHaveLength(15);
      return { shown: of.length, refused, cancelled: cancelled() };
    }

    test("it is given up, then tried less and less often, and taken again once it is in time", () => {
      const f = new Fixture();
      expect(playGroup(f, 1, 0)).toEqual({ shown: 30, refused: false, cancelled: false });
      const groups = Array.from({ length: 20 }, (_, index) => index + 2);
      const trials = groups.filter((group) => {
        const { shown, refused, cancelled } = playGroup(f, group, 200);
        expect({ shown, cancelled }, `group ${group}`).toEqual({ shown: 15, cancelled: true });
        return !refused;
      });
      expect(trials).toEqual([2, 3, 5, 9, 17]);
      const recovered = Array.from({ length: 21 }, (_, index) => playGroup(f, 22 + index, 0).shown);
      expect(recovered.slice(-6)).toEqual([30, 30, 30, 30, 30, 30]);
    });
  });

  test("one that the relay cuts is tried less and less often too", () => {
    const f = new Fixture();
    const tried = Array.from({ length: 20 }, (_, index) => index + 1).filter((group) => {
      f.now += 1000;
      const [base, upper] = [f.open(group, 0), f.open(group, 1)];
      f.put(base, 0, 2);
      f.out();
      const refused = f.cancelled.includes(`${group}:1`);
      if (!refused) {
        f.put(upper, 1);
        f.end(upper, false);
      }
      f.put(base, 4);
      f.end(base);
      f.out();
      return !refused;
    });
    expect(tried).toEqual([1, 2, 4, 8, 16]);
  });

  test("an upper layer that is behind holds the next group up no longer than a frame", () => {
    const { f, base, upper } = layered();
    f.put(base, 0);
    f.put(upper, 1);
    f.put(base, 2);
    f.end(base);
    expect(f.out()).toEqual(["1/0", "1/1", "1/2"]);
    f.now = 50;
    f.put(f.open(2, 0), 0, 2);
    expect(f.out()).toEqual([]);
    expect(f.assembler.pollTimeout()).toBe(50 + LAYER_WAIT);
    f.now = 50 + LAYER_WAIT;
    expect(f.out()).toEqual(["2/0", "2/2"]);
    // What is left of the old group is of no use any more.
    expect(f.cancelled).toEqual(["1:1"]);
  });

  test("an upper layer whose stream never comes is not waited for in every group anew", () => {
    const { f, base, upper } = layered();
    f.put(base, 0);
    f.put(upper, 1);
    f.put(base, 2);
    f.end(base);
    f.end(upper);
    f.out();
    const waits: number[] = [];
    for (const group of [2, 3, 4]) {
      f.now += 1000;
      const alone = f.open(group, 0);
      f.put(alone, 0, 2);
      f.end(alone);
      const early = f.out();
      const until = f.assembler.pollTimeout();
      waits.push(until === undefined ? 0 : until - f.now);
      f.now += LAYER_WAIT;
      expect([...early, ...f.out()]).toEqual([`${group}/0`, `${group}/2`]);
    }
    expect(waits).toEqual([LAYER_WAIT, LAYER_WAIT, 0]);
  });

  test("a layer that another group had is waited for in the next", () => {
    const { f, base, upper } = layered();
    f.put(base, 0);
    f.put(upper, 1);
    f.end(base);
    f.end(upper);
    const next = f.open(2, 0);
    f.put(next, 0, 2);
    expect(f.out()).toEqual(["1/0", "1/1", "2/0"]);
    f.put(f.open(2, 1), 1);
    expect(f.out()).toEqual(["2/1", "2/2"]);
  });
});

describe("objects that stand alone", () => {
  test("come out even when the group's beginning is missing", () => {
    const f = new Fixture(true);
    f.put(f.open(1), 5, 6);
    f.now = LAYER_WAIT;
    expect(f.out()).toEqual(["1/5", "1/6"]);
  });

  test("datagrams are put in order, and gaps in them cost a moment", () => {
    const f = new Fixture(true);
    const send = (group: number, id: number) =>
      f.assembler.handleDatagram(
        { trackAlias: 1n, group: BigInt(group), endOfGroup: false, object: object(id) },
        f.now,
      );
    send(1, 0);
    send(1, 2);
    expect(f.out()).toEqual(["1/0"]);
    send(1, 1);
    expect(f.out()).toEqual(["1/1", "1/2"]);
    send(1, 4);
    f.now = LAYER_WAIT;
    expect(f.out()).toEqual(["1/4"]);
    send(2, 0);
    expect(f.out()).toEqual([]);
    f.now = 2 * LAYER_WAIT;
    expect(f.out()).toEqual(["2/0"]);
  });
});

test("whatever races whatever: order holds, nothing comes twice, and it always goes on", () => {
  for (let seed = 0; seed < 300; seed++) {
    const random = seeded(seed);
    const f = new Fixture();
    const given: string[] = [];
    const GROUPS = 6;
    const OBJECTS = 8;
    // Each stream is a list of steps; all of a group's streams and those of neighbours interleave.
    const streams = Array.from({ length: GROUPS * 2 }, (_, i) => {
      const [group, layer] = [i >> 1, i & 1];
      const ids = Array.from({ length: OBJECTS }, (_, id) => id).filter((id) => id % 2 === layer);
      const reset = random() < 0.2;
      return {
        group,
        layer,
        ids: reset ? ids.slice(0, 1 + Math.floor(random() * 3)) : ids,
        reset,
        opened: undefined as SubgroupStream | undefined,
      };
    });
    let left = [...streams];
    while (left.length > 0) {
      const early = left.slice(0, 4);
      const pick = early[Math.floor(random() * early.length)];
      if (!pick) break;
      f.now += random() * 12;
      if (!pick.opened) pick.opened = f.open(pick.group, pick.layer);
      else if (pick.ids.length > 0) f.put(pick.opened, pick.ids.shift() ?? 0);
      else {
        f.end(pick.opened, !pick.reset);
        left = left.filter((stream) => stream !== pick);
      }
      given.push(...f.out());
    }
    f.now += 1000;
    given.push(...f.out());
    const numbers = given
      .map((entry) => entry.split("/").map(Number))
      .map(([group = 0, id = 0]) => group * 100 + id);
    expect(numbers, `seed ${seed}`).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    expect(
      given.some((entry) => entry.startsWith(`${GROUPS - 1}/`)),
      `seed ${seed}`,
    ).toBe(true);
  }
});
