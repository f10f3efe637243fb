/** The keys: one table for dispatch, tooltips and the help in the statistics panel. */

export type Command = "mute" | "fullscreen" | "stats" | "volume-up" | "volume-down" | "close";

export interface Key {
  /** `KeyboardEvent.key`, lower case. */
  readonly key: string;
  readonly shown: string;
  readonly command: Command;
  readonly label: string;
}

export const keymap: readonly Key[] = [
  { key: "m", shown: "M", command: "mute", label: "Mute" },
  { key: "f", shown: "F", command: "fullscreen", label: "Full screen" },
  { key: "i", shown: "I", command: "stats", label: "Statistics" },
  { key: "arrowup", shown: "↑", command: "volume-up", label: "Louder" },
  { key: "arrowdown", shown: "↓", command: "volume-down", label: "Quieter" },
  { key: "escape", shown: "Esc", command: "close", label: "Close statistics" },
];

export function commandOf(event: KeyboardEvent): Command | undefined {
  if (event.ctrlKey || event.metaKey || event.altKey) return undefined;
  return keymap.find(({ key }) => key === event.key.toLowerCase())?.command;
}

/** `Mute (M)`. */
export function tooltip(command: Command): string {
  const entry = keymap.find((candidate) => candidate.command === command);
  return entry ? `${entry.label} (${entry.shown})` : "";
}
