import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    // One after the other: each test measures, and has the machine to itself.
    fileParallelism: false,
    sequence: { concurrent: false },
    testTimeout: 120_000,
    hookTimeout: 60_000,
    // What tests measured is part of their result.
    disableConsoleIntercept: true,
    reporters: ["verbose"],
  },
});
