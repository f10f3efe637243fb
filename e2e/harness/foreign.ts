/**
 * Relays by other people. They are installed below `target/peers`, where `cargo xtask interop` puts and finds
 * them too.
 */

import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type CertificateFiles, makeFreshCertificate } from "./certificate.ts";
import { freePort } from "./ports.ts";
import { Program } from "./program.ts";
import type { Scope } from "./scope.ts";
import { until } from "./wait.ts";

const run = promisify(execFile);

const PEERS = process.env.WEIR_PEERS_DIR ?? join(import.meta.dirname, "../../target/peers");
const AIOMOQT = "aiomoqt==0.13.3";
const AIOPQUIC = "aiopquic==0.6.1";
const OLDEST_PYTHON = [3, 12] as const;
const INSTALL_MS = 300_000;
const START_MS = 20_000;

/** Why something cannot be tried on this machine, and what would help. */
export class NotHere extends Error {}

async function isUsable(python: string): Promise<boolean> {
  const check = `import sys, venv, ensurepip; sys.exit(sys.version_info < (${OLDEST_PYTHON.join(", ")}))`;
  return run(python, ["-c", check]).then(
    () => true,
    () => false,
  );
}

function pyenvPythons(): string[] {
  const versions = join(homedir(), ".pyenv/versions");
  if (!existsSync(versions)) return [];
  return readdirSync(versions).map((version) => join(versions, version, "bin/python3"));
}

async function findPython(): Promise<string> {
  const named = process.env.WEIR_PYTHON;
  const own = pyenvPythons();
  const candidates = named ? [named] : ["python3.12", "python3.13", "python3", ...own];
  for (const python of candidates) if (await isUsable(python)) return python;
  throw new NotHere(
    `aiomoqt needs Python ${OLDEST_PYTHON.join(".")} or newer with its venv module, and there is none among ` +
      `${candidates.join(", ")}. Install one, or name it: WEIR_PYTHON=/path/to/python`,
  );
}

/** Installs aiomoqt unless it is there; the directory of its programs. */
async function installAiomoqt(): Promise<string> {
  const venv = join(PEERS, "aiomoqt");
  const bin = join(venv, "bin");
  if (existsSync(join(bin, "moq-interop-relay"))) return bin;
  const python = await findPython();
  await run(python, ["-m", "venv", "--clear", venv], { timeout: INSTALL_MS });
  const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
  await run(join(bin, "python"), [...pip, AIOMOQT, AIOPQUIC], { timeout: INSTALL_MS });
  return bin;
}

interface Installed {
  name: string;
  file: string;
  args: readonly string[];
  /** What it logs once it serves. */
  sign: string;
}

/** A relay that is not ours. It has no page, and is known by its certificate's hash. */
export class ForeignRelay {
  #program: Program | undefined;

  private constructor(
    private readonly scope: Scope,
    private readonly port: number,
    private readonly certificate: CertificateFiles,
    private readonly installed: Installed,
  ) {}

  /** aiomoqt's `moq-interop-relay`, speaking one draft on raw QUIC and WebTransport. */
  static async aiomoqt(scope: Scope, draft: number): Promise<ForeignRelay> {
    const name = "moq-interop-relay";
    const file = join(await installAiomoqt(), name);
    return ForeignRelay.start(scope, (port, { certificate, key }) => ({
      name,
      file,
      args: [
        ["--bind", "127.0.0.1", "--dual", "--port", `${port}`, "--draft", `${draft}`],
        ["--cert", certificate, "--key", key],
      ].flat(),
      sign: "Listening on",
    }));
  }

  /** Cloudflare's `moq-relay-ietf`, which takes too long to build for a test to do it. */
  static async moqRelayIetf(scope: Scope): Promise<ForeignRelay> {
    const name = "moq-relay-ietf";
    const file = join(PEERS, "bin", name);
    if (!existsSync(file)) throw new NotHere(`${file} is missing; "cargo xtask interop" installs it`);
    return ForeignRelay.start(scope, (port, { certificate, key }) => ({
      name,
      file,
      args: [
        ["--bind", `127.0.0.1:${port}`, "--tls-cert", certificate, "--tls-key", key],
        ["--coordinator-file", join(scope.directory(), "coordinator.json")],
      ].flat(),
      sign: "listening on",
    }));
  }

  private static async start(
    scope: Scope,
    install: (port: number, certificate: CertificateFiles) => Installed,
  ): Promise<ForeignRelay> {
    const [port, certificate] = [await freePort(), makeFreshCertificate(scope)];
    const relay = new ForeignRelay(scope, port, certificate, install(port, certificate));
    await relay.restart();
    return relay;
  }

  /** Where publishers push to. */
  get moqt(): string {
    return `moqt://127.0.0.1:${this.port}`;
  }

  /** Where a browser connects to, and by which certificate it knows the place. */
  get session(): { url: string; hash: string } {
    return { url: `https://127.0.0.1:${this.port}/`, hash: this.certificate.hash };
  }

  async kill(): Promise<void> {
    await this.#program?.kill();
  }

  /** Starts it (again) and waits until it listens. */
  async restart(): Promise<void> {
    const { name, file, args, sign } = this.installed;
    const program = new Program(this.scope, name, file, args, {
      cwd: this.scope.directory(),
      env: { ...process.env, PYTHONUNBUFFERED: "1", RUST_LOG: "info" },
    });
    this.#program = program;
    await until(`${name} to listen`, START_MS, () => program.exit || program.output.includes(sign));
    if (program.exit) throw new Error(`${name} ended at once:\n${program.output}`);
  }
}
