/** Drawn on a 24-unit grid, stroked in the current colour. */

const icon = (body: string) =>
  `<svg viewBox="0 0 24 24" width="22" height="22" fill="none" stroke="currentColor" stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${body}</svg>`;

const speaker = '<path d="M4 9.5v5h3.2L12 18.5v-13L7.2 9.5Z"/>';

export const icons = {
  sound: icon(`${speaker}<path d="M15.5 9a4.2 4.2 0 0 1 0 6M18.2 6.6a7.8 7.8 0 0 1 0 10.8"/>`),
  muted: icon(`${speaker}<path d="m16 9.5 5 5m0-5-5 5"/>`),
  stats: icon('<path d="M4 19.5h16M6.5 16v-4M11 16V6.5M15.5 16V9.5M20 16v-2"/>'),
  enlarge: icon('<path d="M9 4H4v5M15 4h5v5M20 15v5h-5M4 15v5h5"/>'),
  shrink: icon('<path d="M4 9h5V4M20 9h-5V4M15 20v-5h5M9 20v-5H4"/>'),
} as const;
