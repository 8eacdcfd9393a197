import { expect, test } from "bun:test";
import { Tally } from "../../src/core/queue/tally.ts";

test("a task that runs before its submit is counted makes no number negative: a host would refuse to hear it", () => {
	const states = { pending: 0, blocked: 0, running: 0, cancelling: 0, completed: 0, failed: 0, cancelled: 0 };
	const tally = new Tally(states as ConstructorParameters<typeof Tally>[0], [0, 0, 0, 0]);
	tally.apply({ from: "pending", state: "running", rank: 2 });
	expect(tally.counters()).toEqual({ pending: 0, running: 1 });
	tally.apply({ from: null, state: "pending", rank: 2 });
	expect(tally.counters()).toEqual({ pending: 0, running: 1 });
});
