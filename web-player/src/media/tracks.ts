/** Which tracks of a catalog to play, and what to call a codec when talking to people. */

import type { Catalog, CatalogTrack } from "./catalog";

export type MediaKind = "video" | "audio";

/** A track this player could play if the browser decodes it. */
export interface PlayableTrack extends CatalogTrack {
  readonly codec: string;
}

export interface Selection {
  readonly video?: PlayableTrack;
  readonly audio?: PlayableTrack;
}

/** Why nothing can be played, in the order of how much it explains. */
export type Unplayable =
  | { readonly reason: "empty" }
  | { readonly reason: "packaging"; readonly packagings: readonly string[] }
  | { readonly reason: "codec"; readonly codecs: readonly string[] };

export type Choice = { readonly selection: Selection } | { readonly unplayable: Unplayable };

const families: readonly (readonly [RegExp, string])[] = [
  [/^(avc1|avc3)\b/, "H.264"],
  [/^(hev1|hvc1)\b/, "HEVC (H.265)"],
  [/^av01\b/, "AV1"],
  [/^vp09\b|^vp9\b/, "VP9"],
  [/^vp8\b/, "VP8"],
  [/^opus\b/i, "Opus"],
  [/^mp4a\.40\./, "AAC"],
  [/^mp4a\.(69|6b)/i, "MP3"],
  [/^mp3\b/, "MP3"],
  [/^flac\b/i, "FLAC"],
  [/^ac-3\b/, "AC-3"],
  [/^ec-3\b/, "E-AC-3"],
];

/** `hvc1.1.6.L93.B0` → `HEVC (H.265)`; an unknown string stays as it is. */
export function codecFamily(codec: string): string {
  return families.find(([pattern]) => pattern.test(codec))?.[1] ?? codec;
}

function isPlayable(track: CatalogTrack, kind: MediaKind): track is PlayableTrack {
  return track.packaging === "loc" && track.role === kind && track.codec !== undefined;
}

function byQuality(a: CatalogTrack, b: CatalogTrack): number {
  const area = (track: CatalogTrack) => (track.width ?? 0) * (track.height ?? 0);
  return area(b) - area(a) || (b.bitrate ?? 0) - (a.bitrate ?? 0);
}

/**
 * The best video that `supports` says can be decoded, and the audio that goes with it.
 * `supports` is asked in order of preference, and no more often than needed.
 */
export async function chooseTracks(
  catalog: Catalog,
  supports: (track: PlayableTrack, kind: MediaKind) => Promise<boolean>,
): Promise<Choice> {
  const refused: string[] = [];
  const best = async (kind: MediaKind, candidates: readonly PlayableTrack[]) => {
    for (const track of candidates) {
      if (await supports(track, kind)) return track;
      refused.push(codecFamily(track.codec));
    }
    return undefined;
  };

  const videos = catalog.tracks.filter((track) => isPlayable(track, "video"));
  const audios = catalog.tracks.filter((track) => isPlayable(track, "audio"));
  const video = await best("video", videos.sort(byQuality));
  // Among the audio tracks, those that belong to the chosen picture come first.
  const together = (track: CatalogTrack) => (track.renderGroup === video?.renderGroup ? 0 : 1);
  const audio = await best(
    "audio",
    audios.sort((a, b) => together(a) - together(b)),
  );

  // A broadcast with a picture that can't be shown is not played as sound alone.
  const pictureMissing = videos.length > 0 && !video;
  if ((video || audio) && !pictureMissing) {
    return { selection: { ...(video && { video }), ...(audio && { audio }) } };
  }
  if (refused.length > 0) return { unplayable: { reason: "codec", codecs: [...new Set(refused)] } };
  const packagings = [...new Set(catalog.tracks.map(({ packaging }) => packaging))];
  const foreign = packagings.filter((packaging) => packaging !== "loc");
  return {
    unplayable: foreign.length > 0 ? { reason: "packaging", packagings: foreign } : { reason: "empty" },
  };
}
