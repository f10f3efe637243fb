import { describe, expect, test } from "vitest";
import { binaryFile, Program, startBinary } from "../harness/program.ts";
import { useScope } from "../harness/scope.ts";
import { openBrowser, Viewer } from "../harness/viewer.ts";
import { until } from "../harness/wait.ts";
import { startPublisher, startTree } from "../harness/weir.ts";

const scope = useScope();

describe("the dashboard", () => {
  test("shows both nodes, the viewer and live bitrates", async () => {
    const { root, edge } = await startTree(scope());
    startPublisher(scope(), root, "test:");
    const viewer = await Viewer.open(scope(), await openBrowser(scope()), edge, "live/test");
    await viewer.nextSight();

    await until("the root to report a viewer at the edge", 15_000, async () => {
      const nodes = await root.nodes();
      return nodes.get("edge")?.viewers === 1 && nodes.get("edge")?.parent === "root";
    });
    const table = startBinary(scope(), "tui --once", "tui", ["--once", root.adminUrl]);
    expect(await table.exited(15_000)).toEqual({ code: 0, signal: null });
    expect(table.output).toMatch(/root/);
    const row = table.output.split("\n").find((line) => /\bedge\b/.test(line)) ?? "";
    expect(row, "the edge's row").toMatch(/\b1\b/);
    expect(row, "the edge's row").toMatch(/\d[kM]\b/);
  });

  test("draws in a terminal of 80 by 24 and leaves it as it was", async () => {
    const { root } = await startTree(scope());
    // script(1) gives it a terminal, and types what comes in.
    const terminal = new Program(scope(), "tui in a terminal", "script", [
      ...[
        "-q",
        "-e",
        "-c",
        `stty cols 80 rows 24; exec '${binaryFile("tui")}' '${root.adminUrl}'`,
        "/dev/null",
      ],
    ]);
    await until(
      "both nodes on the screen",
      15_000,
      () => /root/.test(terminal.output) && /edge/.test(terminal.output),
    );
    terminal.stdin.write("q");
    expect(await terminal.exited(10_000)).toEqual({ code: 0, signal: null });
    // Left: the alternate screen; shown again: the cursor.
    expect(terminal.output).toContain("\u001b[?1049l");
    expect(terminal.output).toContain("\u001b[?25h");
  });

  test("without a terminal says so and ends", async () => {
    const tui = startBinary(scope(), "tui", "tui", []);
    const { code } = await tui.exited(10_000);
    expect(code).not.toBe(0);
    expect(tui.output).toMatch(/terminal/i);
  });

  test("once, with nobody there, fails and names the address", async () => {
    const tui = startBinary(scope(), "tui", "tui", ["--once", "http://127.0.0.1:1"]);
    expect(await tui.exited(15_000)).toEqual({ code: 1, signal: null });
    expect(tui.output).toContain("127.0.0.1:1");
  });
});
