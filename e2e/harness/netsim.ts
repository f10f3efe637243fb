/** A bad line between a viewer and a relay. */

import { freePort } from "./ports.ts";
import { type Program, startBinary } from "./program.ts";
import type { Scope } from "./scope.ts";
import { until } from "./wait.ts";

export class BadLine {
  private constructor(
    readonly port: number,
    private readonly program: Program,
  ) {}

  /** Starts a perfect line to a relay's port; `change` makes it bad. */
  static async start(scope: Scope, to: number): Promise<BadLine> {
    const port = await freePort();
    const program = startBinary(scope, "netsim", "netsim", [
      ...["--listen", `127.0.0.1:${port}`, "--to", `127.0.0.1:${to}`, "--direction", "down"],
    ]);
    await until("netsim to listen", 10_000, () => program.output.includes("listening"));
    return new BadLine(port, program);
  }

  /** Changes the line's properties, such as `rate=600k queue=64k delay=20`. */
  async change(properties: string): Promise<void> {
    this.program.stdin.write(`${properties}\n`);
    await until(`netsim to take ${properties}`, 10_000, () =>
      this.program.output.includes(`changed: ${properties}`),
    );
  }
}
