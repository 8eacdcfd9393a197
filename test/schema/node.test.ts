import { expect, test } from "bun:test";
import type { ModelCopy } from "../../src/schema/model.ts";
import { type Heartbeat, heartbeatSchema } from "../../src/schema/node.ts";
import { heartbeat, service } from "../cluster/beat.ts";

const isTaken = (change: Record<string, unknown>): boolean =>
	heartbeatSchema.safeParse({ ...heartbeat(), ...change }).success;
const long = (characters: number): string => "a".repeat(characters);
const tiers = (count: number): Heartbeat["tiers"] =>
	Object.fromEntries(
		Array.from({ length: count }, (_, at) => [`disk${at}`, { total: 1, used: 0, reserved: 0, available: 1 }]),
	);
const copy = (change: Partial<ModelCopy> = {}): ModelCopy => ({
	model_name: "acme/tiny",
	revision: "main",
	tier: "disk",
	status: "ready",
	size_bytes: 1,
	content_id: long(64),
	model_type: "llm",
	source_url: null,
	format: "gguf",
	ready_at: 1,
	...change,
});
const activity = (change: Record<string, unknown> = {}) => ({
	model_name: "acme/tiny",
	tier: "disk",
	status: "downloading",
	...change,
});

test("what a later version of a node tells besides is no reason not to hear it", () => {
	expect(isTaken({ mood: "good", services: [{ ...service(), colour: "blue" }] })).toBe(true);
});

test.each([
	["version", { version: long(100) }, { version: long(101) }],
	["cpus", { cpus: 0 }, { cpus: -1 }],
	["seq", { seq: 0 }, { seq: -1 }],
	["incarnation", { incarnation: Number.MAX_SAFE_INTEGER }, { incarnation: 1e300 }],
	["models", { models: 0 }, { models: -1 }],
	["tiers", { tiers: tiers(64) }, { tiers: tiers(65) }],
	[
		"a tier's name",
		{ tiers: { [long(20)]: tiers(1)["disk0"] } },
		{ tiers: { [long(21)]: tiers(1)["disk0"] } },
	],
	[
		"activities",
		{ activities: Array(2_000).fill(activity()) },
		{ activities: Array(2_001).fill(activity()) },
	],
	["an activity", { activities: [activity()] }, { activities: [activity({ model_name: long(401) })] }],
	["services", { services: Array(1_000).fill(service()) }, { services: Array(1_001).fill(service()) }],
	[
		"a service's names",
		{ services: [service({ served_name: long(400), revision: long(128) })] },
		{ services: [service({ served_name: long(401) })] },
	],
	[
		"a service's revision",
		{ services: [service({ revision: "main" })] },
		{ services: [service({ revision: long(129) })] },
	],
	[
		"where a copy was adopted",
		{ inventory: [copy({ adopted_from: long(4096) })] },
		{ inventory: [copy({ adopted_from: long(4097) })] },
	],
	[
		"a service's url",
		{ services: [service({ url: long(2048) })] },
		{ services: [service({ url: long(2049) })] },
	],
	["a service's port", { services: [service({ port: 65535 })] }, { services: [service({ port: 65536 })] }],
	[
		"its error",
		{ services: [service({ error: long(65_536) })] },
		{ services: [service({ error: long(65_537) })] },
	],
	["its restarts", { services: [service({ restarts: 0 })] }, { services: [service({ restarts: -1 })] }],
	["copies", { inventory: [copy()] }, { inventory: Array(100_001).fill(copy()) }],
	[
		"a copy's revision",
		{ inventory: [copy({ revision: long(128) })] },
		{ inventory: [copy({ revision: long(129) })] },
	],
	[
		"its source",
		{ inventory: [copy({ source_url: long(4096) })] },
		{ inventory: [copy({ source_url: long(4097) })] },
	],
])("a heartbeat has a bound: %s", (_what, within, beyond) => {
	expect([isTaken(within), isTaken(beyond)]).toEqual([true, false]);
});
