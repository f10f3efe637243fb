/** Relays and publishers, as an operator starts them. */

import { freePort } from "./ports.ts";
import { type Program, startBinary } from "./program.ts";
import type { Scope } from "./scope.ts";
import { until } from "./wait.ts";

const START_MS = 20_000;

export interface Drops {
  [reason: string]: { groups: number; objects: number; bytes: number };
}

export interface SessionSnapshot {
  id: string;
  kind: string;
  transport: string;
  bytes_out: number;
  queued_bytes: number;
  drops: Drops;
}

export interface NodeSnapshot {
  node: string;
  parent: string | null;
  state: string;
  viewers: number;
  publishers: number;
  bytes_in: number;
  bytes_out: number;
  drops: Drops;
  sessions: SessionSnapshot[];
  /** What its viewers reported; absent until one does. */
  seen?: SeenSnapshot;
}

export interface SeenSnapshot {
  viewers: number;
  latency_ms?: { p50: number; p95: number };
  latency_error_ms?: number;
  join_ms?: number;
  stalls: number;
  stalled_ms: number;
  frames_dropped: number;
}

export interface RelayOptions {
  upstream?: Relay;
  args?: readonly string[];
}

export class Relay {
  #program: Program | undefined;

  private constructor(
    private readonly scope: Scope,
    readonly node: string,
    readonly listen: number,
    readonly http: number,
    readonly admin: number,
    private readonly args: readonly string[],
  ) {}

  /** Starts a relay on free ports and waits until it is ready. */
  static async start(scope: Scope, node: string, options: RelayOptions = {}): Promise<Relay> {
    const [listen, http, admin] = [await freePort(), await freePort(), await freePort()];
    const args = [
      ["--node", node],
      ["--listen", `[::]:${listen}`],
      ["--http", `127.0.0.1:${http}`],
      ["--admin", `127.0.0.1:${admin}`],
      ["--state-dir", scope.directory()],
      options.upstream ? ["--upstream", options.upstream.moqt] : [],
      options.args ?? [],
    ].flat();
    const relay = new Relay(scope, node, listen, http, admin, args);
    await relay.restart();
    return relay;
  }

  /** Where publishers and child relays connect to. */
  get moqt(): string {
    return `moqt://127.0.0.1:${this.listen}`;
  }

  get adminUrl(): string {
    return `http://127.0.0.1:${this.admin}`;
  }

  page(broadcast: string): string {
    return `http://127.0.0.1:${this.http}/watch/${broadcast}`;
  }

  get program(): Program {
    if (!this.#program) throw new Error(`relay ${this.node} was never started`);
    return this.#program;
  }

  kill(): Promise<void> {
    return this.program.kill();
  }

  /** Starts it (again), on the same ports with the same state, and waits until it is ready. */
  async restart(): Promise<void> {
    this.#program = startBinary(this.scope, `relay ${this.node}`, "relay", this.args);
    await this.isReady();
  }

  private async isReady(): Promise<void> {
    await until(`relay ${this.node} to be ready`, START_MS, async () => {
      const { exit, output } = this.program;
      if (exit) return true;
      if ((await fetch(`${this.adminUrl}/ready`)).ok) return true;
      throw new Error(output);
    });
    if (this.program.exit) throw new Error(`relay ${this.node} ended at once:\n${this.program.output}`);
  }

  /** The nodes of its tree, by name. */
  async nodes(): Promise<Map<string, NodeSnapshot>> {
    const answer = await fetch(`${this.adminUrl}/api/v1/nodes`);
    const { nodes } = (await answer.json()) as { nodes: NodeSnapshot[] };
    return new Map(nodes.map((node) => [node.node, node]));
  }

  /** What it says about itself. */
  async snapshot(): Promise<NodeSnapshot> {
    const own = (await this.nodes()).get(this.node);
    if (!own) throw new Error(`relay ${this.node} does not report itself`);
    return own;
  }

  /** Waits until its page lists the broadcast. */
  async offers(broadcast: string): Promise<void> {
    await until(`${broadcast} on relay ${this.node}`, START_MS, async () => {
      const answer = await fetch(`http://127.0.0.1:${this.http}/api/broadcasts`);
      const broadcasts = (await answer.json()) as { name: string }[];
      return broadcasts.some(({ name }) => name === broadcast);
    });
  }
}

/** A root relay and, below it, the edge relay that viewers watch at. */
export interface Tree {
  root: Relay;
  edge: Relay;
}

export async function startTree(scope: Scope): Promise<Tree> {
  const root = await Relay.start(scope, "root");
  const edge = await Relay.start(scope, "edge", { upstream: root });
  return { root, edge };
}

export function startPublisher(
  scope: Scope,
  relay: { readonly moqt: string },
  url: string,
  ...args: string[]
): Program {
  return startBinary(scope, `publisher ${url}`, "publisher", ["--url", url, "--relay", relay.moqt, ...args]);
}
