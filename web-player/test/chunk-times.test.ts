import { expect, test } from "vitest";
import { ChunkTimes } from "../src/media/chunk-times";

const MS = 1024 / 48;

/** A decoder that looks at the first chunk's time only, and gives out `behind` chunks late. */
function counting(first: number, behind = 0) {
  let count = 0;
  const waiting: number[] = [];
  return {
    decode(): number | undefined {
      waiting.push(first + count++ * MS);
      return waiting.length > behind ? waiting.shift() : undefined;
    },
  };
}

test.each([0, 1, 3])("a hole in the input keeps its place, %i chunks behind", (behind) => {
  const times = new ChunkTimes();
  const decoder = counting(1000, behind);
  const inputs: number[] = [];
  const outputs: number[] = [];
  for (let i = 0; i < 200; i++) {
    const at = 1000 + i * MS + (i >= 50 ? 5600 : 0) + (i >= 120 ? 3 * MS : 0);
    inputs.push(at);
    times.handleInput(at);
    const out = decoder.decode();
    if (out !== undefined) outputs.push(times.timeOf(out, MS));
  }
  expect(outputs.length).toBe(200 - behind);
  for (const [i, time] of outputs.entries()) expect(time).toBeCloseTo(inputs[i] ?? 0, 6);
});

test("a source clock that drifts is followed", () => {
  const times = new ChunkTimes();
  const decoder = counting(0);
  for (let i = 0; i < 5000; i++) {
    const at = i * MS * 1.0005;
    times.handleInput(at);
    expect(times.timeOf(decoder.decode() ?? 0, MS)).toBeCloseTo(at, 6);
  }
});

test("timestamps that were passed through are taken as they are", () => {
  const times = new ChunkTimes();
  for (const at of [0, MS, 9000, 9000 + MS, 20_000]) {
    times.handleInput(at);
    expect(times.timeOf(at, MS)).toBeCloseTo(at, 6);
  }
});

test("a swallowed first chunk moves nothing", () => {
  const times = new ChunkTimes();
  times.handleInput(100);
  times.handleInput(100 + MS);
  expect(times.timeOf(100 + MS, MS)).toBeCloseTo(100 + MS, 6);
});

test("another decoder counts from its own first chunk", () => {
  const times = new ChunkTimes();
  times.handleInput(0);
  times.timeOf(0, MS);
  times.reset();
  times.handleInput(7000);
  expect(times.timeOf(7000, MS)).toBe(7000);
});
