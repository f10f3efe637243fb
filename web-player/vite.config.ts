import { defineConfig } from "vitest/config";
import manifest from "./package.json" with { type: "json" };

// Three pages and one library entry. The relay serves the pages at `/`, `/watch/…` and `/embed/…`, so
// every asset address is absolute; the library keeps a stable name for pages elsewhere that import it.
export default defineConfig({
  base: "/",
  define: { __VERSION__: JSON.stringify(manifest.version) },
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: {
        index: "index.html",
        watch: "watch.html",
        embed: "embed.html",
        "weir-player": "src/index.ts",
      },
      preserveEntrySignatures: "exports-only",
      output: {
        entryFileNames: (chunk) =>
          chunk.name === "weir-player" ? "assets/weir-player.js" : "assets/[name]-[hash].js",
      },
    },
  },
  worker: { format: "es" },
  // Some tests compare every byte of many streams: on a busy machine that takes its time.
  test: { include: ["test/**/*.test.ts"], testTimeout: 30_000 },
});
