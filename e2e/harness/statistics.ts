/** Figures of a series, and the sentences that tests print them in. */

import type { Sight } from "./viewer.ts";

/** The smallest value that so many per cent of all values don't exceed. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1);
  return sorted[at] ?? Number.NaN;
}

export interface Latency {
  p50: number;
  p95: number;
  max: number;
  pictures: number;
}

export function latencyOf(sights: readonly Sight[]): Latency {
  const latencies = sights.map(({ latency }) => latency);
  const round = (value: number) => Math.round(value * 10) / 10;
  return {
    p50: round(percentile(latencies, 50)),
    p95: round(percentile(latencies, 95)),
    max: round(percentile(latencies, 100)),
    pictures: latencies.length,
  };
}

/** The places where the frame number did not grow, in words. */
export function stepsBack(sights: readonly Sight[]): string[] {
  return sights.flatMap((sight, index) => {
    const before = sights[index - 1];
    return before && sight.frame <= before.frame ? [`${sight.frame} after ${before.frame}`] : [];
  });
}

/** The longest time without a new picture, in milliseconds. */
export function longestGap(sights: readonly Sight[]): number {
  return sights.reduce((longest, sight, index) => {
    const before = sights[index - 1];
    return before ? Math.max(longest, sight.at - before.at) : longest;
  }, 0);
}

/** A measured figure in the test's output, easy to find. */
export function report(what: string, figures: object | string): void {
  console.log(`  [measured] ${what}: ${typeof figures === "string" ? figures : JSON.stringify(figures)}`);
}
