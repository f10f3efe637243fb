/** The element's `src` and `relay`, taken apart: where the session goes, and which broadcast is there. */

import type { Source } from "./bridge";
import { namespaceOf } from "./moqt/names";

export interface ParsedSource {
  /** Where the session goes, `https://host:port/path`; absent: the relay behind the page's own server. */
  readonly relay?: URL;
  /** `live/cam1`, decoded. */
  readonly broadcast: string;
}

/** Throws a RangeError that says what is wrong. */
export function parseSource({ src, relay, pageUrl }: Source): ParsedSource {
  const relative = !/^[a-z][a-z0-9+.-]*:/i.test(src);
  const url = relative ? parseUrl(src, pageUrl) : parseHttps(src);
  const broadcast = decodePath(url.pathname);
  // Throws when it can't be a namespace.
  namespaceOf(broadcast);
  if (relay !== undefined) return { relay: parseHttps(relay), broadcast };
  return relative ? { broadcast } : { relay: new URL(`https://${url.host}/`), broadcast };
}

/** The broadcast that a page path names: `/watch/live/cam1` under `/watch/` is `live/cam1`. */
export function broadcastOfPath(pathname: string, prefix: string): string {
  return pathname.startsWith(prefix) ? decodePath(pathname.slice(prefix.length)) : "";
}

/** `live/cam 1` → `live/cam%201`, for links. */
export function pathOfBroadcast(broadcast: string): string {
  return broadcast.split("/").map(encodeURIComponent).join("/");
}

function parseHttps(text: string): URL {
  // `moqt:` is no special scheme to URL, so it is read as the https it stands for.
  const url = parseUrl(text.replace(/^moqt:/i, "https:"));
  if (url.protocol !== "https:") throw new RangeError(`${text} does not start with https://`);
  return url;
}

function parseUrl(text: string, base?: string): URL {
  try {
    return new URL(text, base);
  } catch {
    throw new RangeError(`${text === "" ? "nothing" : text} is not a URL`);
  }
}

function decodePath(path: string): string {
  try {
    return path.split("/").map(decodeURIComponent).filter(Boolean).join("/");
  } catch {
    throw new RangeError("it has a % that is not followed by two hex digits");
  }
}
