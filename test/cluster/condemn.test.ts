import { expect, test } from "bun:test";
import { join } from "node:path";
import { type CondemnInput, condemnModule } from "../../src/agent/host/condemn-store.ts";
import { type TaskContext, openQueue, queueModule } from "../../src/core/queue/queue.ts";
import { createRegistry, registryModule } from "../../src/core/registry/registry.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import type { OperationToken } from "../../src/schema/operation.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const COPY = {
	model_name: "a",
	tier: "disk",
	revision: "r1",
	status: "ready",
	content_id: "c1",
	size_bytes: 10,
	model_type: "llm",
	source_url: null,
	format: "gguf",
	ready_at: 0,
} as const;

test("leave to destroy is given in one transaction with the token of the operation that wants it", async () => {
	using dir = tempDir();
	const clock = new FakeClock();
	const modules = [registryModule, queueModule, condemnModule];
	await using db = openInlineDatabase(join(dir.path, "agent.sqlite"), modules);
	const facts = { activities: () => [], services: () => [], nodeStatus: () => "alive" };
	const registry = createRegistry({ db, clock, facts });
	await using queue = await openQueue(
		{ db, clock, ids: systemIds, log: silentLog },
		{ queue: "host", node: "host" },
	);
	let context: TaskContext | undefined;
	const end = Promise.withResolvers<undefined>();
	queue.start({
		delete: (given) => {
			context = given;
			return end.promise;
		},
	});
	const { task } = await queue.submit({ type: "delete", model: "a", request: {}, priority: "normal" });
	const began = await until("it begins", () => context);
	await began.nextFence();
	const { hostEpoch, n } = await began.nextFence();
	const token = { operation: `${task.task_id}/remove`, host_epoch: hostEpoch, n };
	const ask = async (change: Partial<OperationToken> | undefined): Promise<string | boolean> => {
		// As they were: a grant gives the copy up.
		for (const node of ["node1", "node2"]) await registry.takeInventory(node, [COPY]);
		const input: CondemnInput = {
			model_name: "a",
			node: "node1",
			tier: "disk",
			revision: "r1",
			operation: change === undefined ? undefined : { ...token, ...change },
			alive: ["node1", "node2"],
			force: false,
			dry_run: false,
		};
		const granted = db.writer(condemnModule).condemn(input);
		return granted.catch((error: unknown) => {
			const ready = registry.locations("a").filter((it) => it.status === "ready");
			expect(ready).toHaveLength(2);
			return `${asGswarmError(error).status} ${asGswarmError(error).reason}`;
		});
	};
	expect(await ask(undefined)).toBe(true);
	expect(await ask({})).toBe(true);
	// A node remembered a higher epoch than this database, and the host adopted it.
	expect(await ask({ host_epoch: hostEpoch + 5 })).toBe(true);
	expect(await ask({ n: n - 1 })).toBe("409 stale_token");
	expect(await ask({ n: n + 1 })).toBe("409 stale_token");
	expect(await ask({ host_epoch: hostEpoch - 1 })).toBe("409 stale_token");
	expect(await ask({ operation: "delete-unknown/remove" })).toBe("409 stale_token");
	// From the commit of the cancel on, though its handler goes on for a moment.
	const cancelled = queue.cancel(task.task_id);
	expect(await ask({})).toBe("409 stale_token");
	end.resolve(undefined);
	await cancelled.catch(() => undefined);
	expect(await ask({})).toBe("409 stale_token");
});
