/** What a test has started, ended again in the opposite order whatever became of the test. */

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";

type Ending = () => unknown;

/** Where failed tests leave logs and screenshots. */
export const OUT = join(import.meta.dirname, "..", "out");

export class Scope {
  readonly #endings: Ending[] = [];
  readonly #evidence: Ending[] = [];
  readonly #shared = new Map<string, string>();

  constructor(readonly name: string) {}

  /** Does this at the end of the test. */
  onEnd(ending: Ending): void {
    this.#endings.push(ending);
  }

  /** Does this before the end of a test that failed, to show why. */
  onFailure(show: Ending): void {
    this.#evidence.push(show);
  }

  /** A new directory, removed at the end. */
  directory(): string {
    const directory = mkdtempSync(join(tmpdir(), "weir-e2e-"));
    this.onEnd(() => rmSync(directory, { recursive: true, force: true }));
    return directory;
  }

  /** The one directory of this name that all in the test share. */
  shared(name: string): string {
    const known = this.#shared.get(name);
    if (known) return known;
    const directory = this.directory();
    this.#shared.set(name, directory);
    return directory;
  }

  /** A file below `OUT` for this test to leave something in. */
  evidenceFile(name: string): string {
    mkdirSync(OUT, { recursive: true });
    return join(OUT, `${this.name.replace(/[^a-z0-9]+/gi, "-")}-${name}`);
  }

  async end(failed: boolean): Promise<void> {
    const all = [...(failed ? this.#evidence : []), ...this.#endings.reverse()];
    for (const ending of all) {
      try {
        await ending();
      } catch (error) {
        console.error(`while ending "${this.name}":`, error);
      }
    }
  }
}

/** Gives each test of the file a scope of its own; call the result inside a test. */
export function useScope(): () => Scope {
  let scope: Scope | undefined;
  beforeEach(({ task }) => {
    scope = new Scope(task.name);
  });
  afterEach(async ({ task }) => {
    await scope?.end(task.result?.state === "fail");
    scope = undefined;
  }, 60_000);
  return () => {
    if (!scope) throw new Error("a scope exists only while a test runs");
    return scope;
  };
}
