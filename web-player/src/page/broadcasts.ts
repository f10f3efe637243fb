/** What is live at this relay, asked every few seconds while somebody looks. */

export interface Broadcast {
  readonly name: string;
  /** Absent: the relay doesn't say. */
  readonly viewers?: number;
}

/** Undefined: the relay doesn't answer. */
export type Listing = readonly Broadcast[] | undefined;

const EVERY_MS = 2000;
const TIMEOUT_MS = 4000;

export function parseBroadcasts(json: unknown): readonly Broadcast[] {
  if (!Array.isArray(json)) throw new TypeError("the list of broadcasts is no list");
  return json.flatMap((entry: unknown): Broadcast[] => {
    if (typeof entry !== "object" || entry === null) return [];
    const { name, viewers } = entry as Record<string, unknown>;
    if (typeof name !== "string" || name === "") return [];
    return [{ name, ...(typeof viewers === "number" && { viewers }) }];
  });
}

/** Calls `handle` now and whenever the answer came. */
export function followBroadcasts(handle: (listing: Listing) => void): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const ask = async () => {
    clearTimeout(timer);
    handle(await fetchBroadcasts());
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(ask, EVERY_MS);
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void ask();
  });
  void ask();
}

async function fetchBroadcasts(): Promise<Listing> {
  try {
    const response = await fetch("/api/broadcasts", {
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return response.ok ? parseBroadcasts(await response.json()) : undefined;
  } catch {
    return undefined;
  }
}

export function viewersText(viewers: number | undefined): string {
  if (viewers === undefined) return "";
  return viewers === 1 ? "1 viewer" : `${viewers} viewers`;
}
