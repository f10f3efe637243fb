/**
 * Where to connect and which certificate to accept. Asked anew before every connection, because a relay
 * renews its own certificate while viewers watch; for the first one by the page, while the worker starts.
 */

import type { Source } from "./bridge";
import { parseSource } from "./source";

export interface Endpoint {
  /** `https://host:port/path`. */
  readonly url: string;
  /** SHA-256 of the one certificate to accept; absent: one that the browser trusts. */
  readonly certificateHash?: Uint8Array<ArrayBuffer>;
}

/** `GET /api/relay`, which the relay's own page server answers. */
interface RelayInfo {
  readonly port: number;
  readonly certificateHash: string | null;
}

/**
 * The relay is behind the page's server, and that doesn't answer at all. There is no use in trying the
 * relay then, and harm: Chromium makes a page wait twice as long after every failed handshake.
 */
export class PageServerSilent extends Error {
  readonly host: string;

  constructor(host: string) {
    super(`${host} doesn't answer`);
    this.name = "PageServerSilent";
    this.host = host;
  }
}

const FETCH_TIMEOUT_MS = 3000;

export async function resolveEndpoint(source: Source): Promise<Endpoint> {
  const { relay } = parseSource(source);
  const page = new URL(source.pageUrl);
  if (relay && source.certificateHash) return endpoint(relay, source.certificateHash);
  // Another host's certificate is not ours to know: the browser has to trust it.
  if (relay && !sameMachine(relay.hostname, page.hostname)) return { url: relay.href };

  const info = await fetchRelayInfo(page);
  if (info) {
    const url = relay ?? new URL(`https://${page.hostname}:${info.port}/`);
    return endpoint(url, source.certificateHash ?? info.certificateHash);
  }
  // Some other server's page: its own port is the best guess, and a hash may lie beside it.
  const url = relay ?? new URL(`https://${page.host}/`);
  return endpoint(url, source.certificateHash ?? (await fetchText(new URL("/certificate.sha256", page))));
}

const loopback: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);

function sameMachine(a: string, b: string): boolean {
  return a === b || (loopback.has(a) && loopback.has(b));
}

/** The hash as bytes; undefined when it isn't one. */
export function parseHash(hex: string): Uint8Array<ArrayBuffer> | undefined {
  const digits = hex.trim().replaceAll(":", "");
  if (!/^[0-9a-f]{64}$/i.test(digits)) return undefined;
  return Uint8Array.from({ length: 32 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

function endpoint(url: URL, hex: string | null | undefined): Endpoint {
  const certificateHash = hex ? parseHash(hex) : undefined;
  return { url: url.href, ...(certificateHash && { certificateHash }) };
}

async function fetchRelayInfo(page: URL): Promise<RelayInfo | undefined> {
  const text = await fetchText(new URL("/api/relay", page));
  if (text === undefined) return undefined;
  try {
    const { port, certificateHash } = JSON.parse(text) as Partial<RelayInfo>;
    if (typeof port !== "number") return undefined;
    return { port, certificateHash: typeof certificateHash === "string" ? certificateHash : null };
  } catch {
    // Some other server's page: it has no such address and answers with HTML.
    return undefined;
  }
}

/** Undefined: there is no such page. Throws when nothing answers, or only a proxy before it. */
async function fetchText(url: URL): Promise<string | undefined> {
  const init: RequestInit = { cache: "no-store", signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) };
  const response = await fetch(url, init).catch(() => undefined);
  if (!response || response.status >= 500) throw new PageServerSilent(url.host);
  return response.ok ? response.text().catch(() => undefined) : undefined;
}
