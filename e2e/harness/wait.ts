/** Waiting for something that another program does, with a bound. */

const POLL_MS = 50;

export function pause(milliseconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, milliseconds));
}

/** Asks `attempt` until it gives something; `what` names it in the error when it doesn't. */
export async function until<T>(
  what: string,
  milliseconds: number,
  attempt: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const deadline = Date.now() + milliseconds;
  let last: unknown;
  for (;;) {
    try {
      const result = await attempt();
      if (result !== undefined && result !== false) return result;
    } catch (error) {
      last = error;
    }
    if (Date.now() >= deadline) {
      throw new Error(`waited ${milliseconds} ms in vain for ${what}`, { cause: last });
    }
    await pause(POLL_MS);
  }
}
