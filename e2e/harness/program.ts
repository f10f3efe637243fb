/** A running program, its output, and its end. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Readable } from "node:stream";
import type { Scope } from "./scope.ts";
import { until } from "./wait.ts";

const BIN_DIR = process.env.WEIR_BIN_DIR ?? join(import.meta.dirname, "../../target/debug");
/** How much of a program's output is kept, in characters. */
const KEPT = 1 << 18;
/** How many lines of it a failed test shows. */
const SHOWN_LINES = 40;
const END_PATIENCE_MS = 10_000;

/** Programs still running, for the case that this process is asked to end. */
const running = new Set<Program>();
process.once("exit", () => {
  for (const program of running) program.signal("SIGKILL");
});

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface ProgramOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Standard output is for `stdout`'s reader alone, not words to be kept. */
  stdoutIsData?: boolean;
}

export class Program {
  readonly #process: ChildProcess;
  readonly #exited: Promise<Exit>;
  /** What it has said of late, both streams. */
  output = "";
  exit: Exit | undefined;

  constructor(
    scope: Scope,
    readonly name: string,
    file: string,
    args: readonly string[],
    { stdoutIsData = false, ...options }: ProgramOptions = {},
  ) {
    this.#process = spawn(file, args, { ...options, stdio: ["pipe", "pipe", "pipe"] });
    // A program that ended takes no more input: what it said about it is the result.
    this.#process.stdin?.on("error", () => {});
    if (!stdoutIsData) this.#keep(this.#process.stdout);
    this.#keep(this.#process.stderr);
    running.add(this);
    this.#exited = new Promise((resolve) => {
      const end = (exit: Exit) => {
        this.exit = exit;
        running.delete(this);
        resolve(exit);
      };
      this.#process.once("error", (error) => {
        this.output += `cannot run ${file}: ${error.message}`;
        end({ code: -1, signal: null });
      });
      this.#process.once("close", (code, signal) => end({ code, signal }));
    });
    scope.onFailure(() => this.#show());
    scope.onEnd(() => this.end());
  }

  get stdin() {
    if (!this.#process.stdin) throw new Error(`${this.name} has no standard input`);
    return this.#process.stdin;
  }

  /** Its output, for a program made with `stdoutIsData`. */
  get stdout() {
    if (!this.#process.stdout) throw new Error(`${this.name} has no standard output`);
    return this.#process.stdout;
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.exit) this.#process.kill(signal);
  }

  /** Asks it to end, and ends it when it doesn't. */
  async end(): Promise<Exit> {
    this.signal("SIGTERM");
    const kill = setTimeout(() => this.signal("SIGKILL"), END_PATIENCE_MS);
    const exit = await this.#exited;
    clearTimeout(kill);
    return exit;
  }

  /** Ends it as a power cut would. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.#exited;
  }

  /** Waits until it has ended by itself. */
  exited(milliseconds: number): Promise<Exit> {
    return until(`the end of ${this.name}`, milliseconds, () => this.exit);
  }

  #keep(stream: Readable | null): void {
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      this.output = (this.output + chunk).slice(-KEPT);
    });
  }

  #show(): void {
    const how = this.exit ? `ended with ${this.exit.signal ?? this.exit.code}` : "still running";
    const last = this.output.trimEnd().split("\n").slice(-SHOWN_LINES).join("\n");
    console.error(`--- ${this.name} (${how})\n${last}`);
  }
}

/** Where one of the project's own programs is. */
export function binaryFile(binary: string): string {
  const file = resolve(BIN_DIR, binary);
  if (!existsSync(file)) {
    throw new Error(`${file} is missing: build it with "cargo build -p ${binary}", or set WEIR_BIN_DIR`);
  }
  return file;
}

/** Starts one of the project's own programs, with `more` in its environment. */
export function startBinary(
  scope: Scope,
  name: string,
  binary: string,
  args: readonly string[],
  more: NodeJS.ProcessEnv = {},
): Program {
  const file = binaryFile(binary);
  const environment = Object.entries(process.env).filter(([variable]) => !variable.startsWith("WEIR_"));
  return new Program(scope, name, file, args, {
    cwd: scope.directory(),
    // Certificates are trusted within the test that made them, and not by this user for good.
    env: {
      ...Object.fromEntries(environment),
      NO_COLOR: "1",
      WEIR_TRUST_DIR: scope.shared("trust"),
      ...more,
    },
  });
}
