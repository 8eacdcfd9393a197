import { expect, test } from "bun:test";
import { queueModule } from "../../src/core/queue/queue.ts";
import type { Outcome } from "../../src/core/queue/settle.ts";
import { testQueue } from "./test-queue.ts";

const error = JSON.stringify({ code: "NETWORK_ERROR", message: "cut", details: {} });
const outcomes: Outcome[] = [
	{ kind: "failed", error, reason: null },
	{ kind: "retry", error, reason: null, runAtMs: 1, counts: true, spaceWaitSinceMs: null },
	{ kind: "released", reason: "shutdown" },
	{ kind: "cancelled" },
];

test.each(outcomes.map((outcome) => [outcome.kind, outcome] as const))(
	"an attempt that ends as %s after its task was marked as cancelling leaves it cancelled",
	async (_kind, outcome) => {
		await using at = await testQueue();
		const write = at.db.writer(queueModule);
		const id = await at.add();
		const nowMs = at.clock.nowMs();
		const { claimed } = await write.claim({
			queue: "node",
			epoch: 1,
			limits: { slots: 4, criticalSlots: 1 },
			tracksDevices: true,
			capacity: {},
			nowMs,
		});
		expect(claimed).toMatchObject([{ task_id: id, token: 1, attempt: 1 }]);
		await write.cancel({ queue: "node", taskId: id, nowMs });
		const changes = await write.settle({
			seq: 1,
			token: 1,
			outcome,
			phase: "moving",
			bytesDone: 0,
			bytesTotal: 0,
			measure: null,
			nowMs,
		});
		expect(changes).toMatchObject([{ taskId: id, state: "cancelled" }]);
		expect(at.queue.get(id)).toMatchObject({ status: "cancelled", error: null });
	},
);
