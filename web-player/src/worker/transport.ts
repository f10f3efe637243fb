/** Opens a WebTransport session to a relay and sees which draft it chose. */

import type { Endpoint } from "../endpoint";
import { type Codec, codecs, protocols } from "../moqt/codec";
import { SessionCode } from "../moqt/errors";
import type { Transport } from "../moqt/transport";

/** The relay is there and speaks none of our drafts. */
export class NoCommonProtocol extends Error {
  constructor() {
    super(`the relay speaks none of ${protocols.join(", ")}`);
    this.name = "NoCommonProtocol";
  }
}

/** No session came about. `quick`: something answered, and it was no. */
export class ConnectFailed extends Error {
  readonly quick: boolean;

  constructor(quick: boolean, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.name = "ConnectFailed";
    this.quick = quick;
  }
}

const CONNECT_TIMEOUT_MS = 6000;
/** A refusal comes back within a round trip or few; a black hole doesn't. */
const QUICK_MS = 3000;

export interface OpenTransport {
  readonly transport: Transport & { close(info?: object): void };
  readonly codec: Codec;
}

export async function openTransport(endpoint: Endpoint, signal: AbortSignal): Promise<OpenTransport> {
  const startedAt = performance.now();
  const { url, certificateHash } = endpoint;
  let transport: WebTransport;
  try {
    transport = new WebTransport(url, {
      protocols: [...protocols],
      // Frames of several tracks share the connection: its order of arrival is the publisher's business.
      congestionControl: "low-latency",
      ...(certificateHash && { serverCertificateHashes: [{ algorithm: "sha-256", value: certificateHash }] }),
    });
  } catch (error) {
    throw new ConnectFailed(true, error);
  }
  const timer = setTimeout(() => transport.close(), CONNECT_TIMEOUT_MS);
  const abort = () => transport.close();
  signal.addEventListener("abort", abort);
  transport.closed.catch(() => undefined);
  try {
    await transport.ready;
    signal.throwIfAborted();
  } catch (error) {
    throw new ConnectFailed(performance.now() - startedAt < QUICK_MS, error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
  const { protocol } = transport as unknown as { readonly protocol?: string };
  const codec = codecs.find((candidate) => candidate.protocol === protocol);
  if (!codec) {
    transport.close({
      closeCode: SessionCode.VERSION_NEGOTIATION_FAILED,
      reason: `we speak ${protocols.join(", ")}`,
    });
    throw new NoCommonProtocol();
  }
  return { transport, codec };
}
