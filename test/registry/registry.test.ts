import { expect, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import {
	type Activity,
	type CopyKey,
	createRegistry,
	type ModelFilter,
	type Registry,
	registryModule,
} from "../../src/core/registry/registry.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { MODEL_STATUSES, type ModelCopy } from "../../src/schema/model.ts";
import type { ServiceDocument } from "../../src/schema/service.ts";
import { service } from "../cluster/beat.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

interface Stand extends AsyncDisposable {
	registry: Registry;
	clock: FakeClock;
	facts: { activities: Activity[]; services: ServiceDocument[] };
	register(name: string, change?: Partial<Parameters<Registry["register"]>[0]>): Promise<void>;
	/** Names of a list, by any filter. */
	names(filter?: Partial<ModelFilter>): string[];
	/** What the host's transaction that gives leave asks of the registry. */
	condemn(copy: CopyKey, options: { alive: string[]; force: boolean; dryRun: boolean }): Promise<boolean>;
	/** Another one on the same database, that has nothing in memory yet. */
	another(): Registry;
	/** `node:tier revision status` of each location. */
	where(name: string): string[];
}

function stand(): Stand {
	const dir = tempDir();
	const clock = new FakeClock();
	const facts: Stand["facts"] = { activities: [], services: [] };
	const db = openInlineDatabase(join(dir.path, "agent.sqlite"), [registryModule]);
	const registry = createRegistry({
		db,
		clock,
		facts: factsOf(facts),
	});
	return {
		registry,
		clock,
		facts,
		register: (name, change = {}) =>
			registry.register({
				modelName: name,
				modelType: "llm",
				modelSize: 10,
				sourceUrl: null,
				metadata: {},
				...change,
			}),
		names: (filter = {}) => registry.list({ ...EVERYTHING, ...filter }).models.map((it) => it.model_name),
		async condemn(of, { alive, force, dryRun }) {
			const granted = await db.writer(registryModule).condemn({ ...of, alive, force, dry_run: dryRun });
			return granted;
		},
		another: () => createRegistry({ db, clock, facts: factsOf(facts) }),
		where: (name) => registry.locations(name).map((l) => `${l.node}:${l.tier} ${l.revision} ${l.status}`),
		async [Symbol.asyncDispose]() {
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

function factsOf(facts: Stand["facts"]) {
	return {
		activities: () => facts.activities,
		services: () => facts.services,
		nodeStatus: (node: string) => (node === "node1" ? "alive" : "dead"),
	};
}

const EVERYTHING: ModelFilter = {
	type: undefined,
	location: undefined,
	status: undefined,
	page: 1,
	perPage: 200,
};

function copy(name: string, change: Partial<ModelCopy> = {}): ModelCopy {
	return {
		model_name: name,
		revision: "r1",
		tier: "disk",
		status: "ready",
		size_bytes: 100,
		content_id: "c".repeat(64),
		model_type: "llm",
		source_url: "hf:acme/tiny@r1",
		format: "gguf",
		ready_at: 1,
		...change,
	};
}

async function reasonOf(run: () => unknown): Promise<string> {
	try {
		await run();
	} catch (error) {
		const { status, code, reason } = asGswarmError(error);
		return `${status} ${code} ${reason}`;
	}
	return "accepted";
}

test("a registered model is shown as it was registered, and a second one of that name is refused", async () => {
	await using s = stand();
	await s.register("acme/tiny", { modelSize: 2 ** 53 - 1, sourceUrl: "hf:acme/tiny", metadata: { a: [1] } });
	expect(s.registry.get("acme/tiny")).toEqual({
		model_name: "acme/tiny",
		model_type: "llm",
		model_size: 2 ** 53 - 1,
		locations: [],
		services: {},
		status: "unavailable",
		detected: null,
		source_url: "hf:acme/tiny",
		metadata: { a: [1] },
		revision: null,
		format: null,
		created_at: s.clock.nowMs() / 1000,
		location_details: [],
	});
	expect(await reasonOf(() => s.register("acme/tiny"))).toBe("409 CONFLICT model_exists");
	expect(await reasonOf(() => s.registry.get("tiny"))).toBe("404 MODEL_NOT_FOUND model_not_found");
});

test("of two that register one name at the same time exactly one succeeds", async () => {
	await using s = stand();
	const ends = await Promise.all([1, 2, 3].map(() => reasonOf(() => s.register("tiny"))));
	expect(ends.filter((it) => it === "accepted")).toHaveLength(1);
	expect(s.names()).toEqual(["tiny"]);
});

test("a download of a known model changes nothing of it but a missing source", async () => {
	await using s = stand();
	await s.register("tiny", { modelType: "vision" });
	const download = { modelName: "tiny", modelType: "llm", modelSize: 0, sourceUrl: "hf:a/b", metadata: {} };
	await s.registry.ensure(download);
	await s.registry.ensure({ ...download, sourceUrl: "hf:c/d" });
	expect(s.registry.get("tiny")).toMatchObject({
		model_type: "vision",
		model_size: 10,
		source_url: "hf:a/b",
	});
});

test("what a download named is shown while it comes, and is gone when it failed", async () => {
	await using s = stand();
	const download = {
		modelName: "new",
		modelType: "llm",
		modelSize: 0,
		sourceUrl: "hf:a/wrong",
		metadata: {},
	};
	await s.registry.ensure(download);
	s.facts.activities = [{ model_name: "new", tier: "disk", status: "downloading" }];
	expect(s.names()).toEqual(["new"]);
	s.facts.activities = [];
	expect(s.names()).toEqual([]);
	expect(s.registry.has("new")).toBe(false);
	expect(await reasonOf(() => s.registry.get("new"))).toBe("404 MODEL_NOT_FOUND model_not_found");
	await s.registry.ensure({ ...download, sourceUrl: "hf:a/right" });
	await s.registry.takeInventory("node1", [copy("new", { source_url: "hf:a/right@1" })]);
	expect(s.registry.get("new").source_url).toBe("hf:a/right");
	await s.registry.takeInventory("node1", []);
	expect(s.names()).toEqual(["new"]);
});

test("a model can be registered over a download that failed", async () => {
	await using s = stand();
	await s.registry.ensure({
		modelName: "new",
		modelType: "llm",
		modelSize: 0,
		sourceUrl: "hf:a/b",
		metadata: {},
	});
	await s.register("new", { modelType: "vision" });
	expect(s.registry.get("new").model_type).toBe("vision");
});

test("pages are cut from one order, cover everything once, and the total does not depend on them", async () => {
	await using s = stand();
	const all = Array.from({ length: 23 }, (_, i) => `m${String(i * 7919).padStart(6, "0")}`).sort();
	for (const name of all.toReversed()) await s.register(name);
	for (const perPage of [1, 5, 22, 23, 24, 200]) {
		const seen: string[] = [];
		for (let page = 1; page <= Math.ceil(23 / perPage) + 1; page++) {
			const { models, total } = s.registry.list({ ...EVERYTHING, page, perPage });
			expect(total).toBe(23);
			expect(models.length).toBeLessThanOrEqual(perPage);
			seen.push(...models.map((it) => it.model_name));
		}
		expect(seen).toEqual(all);
	}
});

test("filters by type, node, tier and device, alone and together", async () => {
	await using s = stand();
	await s.register("idle", { modelType: "vision" });
	await s.registry.takeInventory("node1", [copy("a"), copy("b", { tier: "dram", model_type: "vision" })]);
	await s.registry.takeInventory("node2", [copy("a", { tier: "dram" }), copy("c")]);
	const at = (node?: string, tier?: string) => ({ location: { node, tier } });
	expect(s.names({ type: "vision" })).toEqual(["b", "idle"]);
	expect(s.names(at("node1"))).toEqual(["a", "b"]);
	expect(s.names(at(undefined, "disk"))).toEqual(["a", "c"]);
	// Both on one location: a is on node1 and on a dram, but not on node1's dram.
	expect(s.names(at("node1", "dram"))).toEqual(["b"]);
	expect(s.names({ ...at("node1"), type: "llm" })).toEqual(["a"]);
	expect(s.names(at("node3"))).toEqual([]);
	expect(s.registry.list({ ...EVERYTHING, ...at("node1"), perPage: 1, page: 2 })).toMatchObject({ total: 2 });
});

test("text that looks like SQL is a value like any other", async () => {
	await using s = stand();
	await s.register("tiny");
	for (const text of ["llm' OR 1=1--", '"; DROP TABLE registry_model; --', "%", "_", "llm\0", "*", "ll?"]) {
		expect([text, s.names({ type: text })]).toEqual([text, []]);
		expect([text, s.names({ location: { node: text, tier: text } })]).toEqual([text, []]);
	}
	expect(s.names()).toEqual(["tiny"]);
});

test("a list filtered by a status has exactly the models that show it, whatever nodes hold and do", async () => {
	await using s = stand();
	const names = ["a", "b", "c", "d"];
	for (const name of names) await s.register(name);
	const anyCopies = fc.uniqueArray(
		fc.record({
			name: fc.constantFrom(...names),
			status: fc.constantFrom("ready" as const, "unavailable" as const),
		}),
		{ selector: (it) => it.name },
	);
	const anyActivities = fc.array(
		fc.record({
			model_name: fc.constantFrom(...names, "unknown"),
			tier: fc.constant("disk"),
			status: fc.constantFrom("queued" as const, "downloading" as const, "moving" as const),
		}),
	);
	await fc.assert(
		fc.asyncProperty(anyCopies, anyActivities, async (copies, activities) => {
			await s.registry.takeInventory(
				"node1",
				copies.map(({ name, status }) => copy(name, { status })),
			);
			s.facts.activities = activities;
			const { models } = s.registry.list(EVERYTHING);
			for (const status of MODEL_STATUSES) {
				const expected = models.filter((it) => it.status === status).map((it) => it.model_name);
				expect([status, s.names({ status })]).toEqual([status, expected]);
				expect(s.registry.list({ ...EVERYTHING, status, perPage: 1 }).total).toBe(expected.length);
			}
		}),
		{ numRuns: 40 },
	);
});

test("an inventory replaces what its node was known to hold, and nothing of other nodes", async () => {
	await using s = stand();
	await s.registry.takeInventory("node1", [copy("a"), copy("b"), copy("a", { tier: "dram" })]);
	await s.registry.takeInventory("node2", [copy("a")]);
	await s.registry.takeInventory("node1", [copy("b", { status: "unavailable" })]);
	expect(s.where("a")).toEqual(["node2:disk r1 ready"]);
	expect(s.where("b")).toEqual(["node1:disk r1 unavailable"]);
	expect(s.registry.get("b").unavailable_locations).toEqual(["node1:disk"]);
	expect(s.registry.get("a")).not.toHaveProperty("unavailable_locations");
	await s.registry.takeInventory("node2", []);
	expect(s.where("a")).toEqual([]);
	expect(s.registry.get("a").status).toBe("unavailable");
});

test("what only a node knows is registered from its inventory; what people said of a model stays", async () => {
	await using s = stand();
	await s.register("known", { modelType: "vision", metadata: { owner: "me" }, sourceUrl: "hf:x/y" });
	await s.register("untyped", { modelType: "unknown" });
	await s.registry.takeInventory("node1", [copy("known"), copy("untyped"), copy("found")]);
	expect(s.registry.get("known")).toMatchObject({
		model_type: "vision",
		model_size: 100,
		source_url: "hf:x/y",
		metadata: { owner: "me" },
		revision: "r1",
		format: "gguf",
		locations: ["node1:disk"],
	});
	expect(s.registry.get("untyped").model_type).toBe("llm");
	expect(s.registry.get("found")).toMatchObject({
		source_url: "hf:acme/tiny@r1",
		metadata: {},
		status: "ready",
	});
});

test("two revisions on one device are two locations and one device", async () => {
	await using s = stand();
	await s.registry.takeInventory("node1", [copy("a"), copy("a", { revision: "r2", size_bytes: 7 })]);
	expect(s.where("a")).toEqual(["node1:disk r1 ready", "node1:disk r2 ready"]);
	expect(s.registry.get("a").locations).toEqual(["node1:disk"]);
	expect(
		s.registry.get("a").location_details.map((it) => [it.revision, it.size_bytes, it.node_status]),
	).toEqual([
		["r1", 100, "alive"],
		["r2", 7, "alive"],
	]);
});

test("a claim is unavailable until the node confirms it, stays over other inventories, and can be dropped", async () => {
	await using s = stand();
	await s.register("a");
	expect(await reasonOf(() => s.registry.claim("nothing", "node1", "disk"))).toBe(
		"404 MODEL_NOT_FOUND model_not_found",
	);
	await s.registry.claim("a", "node1", "disk");
	await s.registry.claim("a", "node1", "disk");
	await s.registry.claim("a", "node1", "dram");
	await s.registry.takeInventory("node1", []);
	expect(s.where("a")).toEqual(["node1:disk  unavailable", "node1:dram  unavailable"]);
	expect(s.registry.get("a").location_details[0]).toMatchObject({ revision: null, content_id: null });
	await s.registry.takeInventory("node1", [copy("a")]);
	expect(s.where("a")).toEqual(["node1:disk r1 ready", "node1:dram  unavailable"]);
	await s.registry.dropClaim("a", "node1", "dram");
	await s.registry.dropClaim("a", "node1", "disk");
	expect(s.where("a")).toEqual(["node1:disk r1 ready"]);
	// A claim of what is there changes nothing.
	await s.registry.claim("a", "node1", "disk");
	expect(s.where("a")).toEqual(["node1:disk r1 ready"]);
});

test("what was deleted while its node was away does not come back with it", async () => {
	await using s = stand();
	const kept = copy("b");
	await s.registry.takeInventory("node1", [copy("a"), copy("a", { revision: "r2" }), kept]);
	const gone = { model_name: "a", node: "node1", tier: "disk", revision: "r1" };
	await s.registry.forget("a", [gone, { ...gone, revision: "r2" }]);
	expect(s.registry.has("a")).toBe(false);
	for (let beat = 0; beat < 3; beat++) {
		const back = await s.registry.takeInventory("node1", [copy("a"), kept]);
		expect(back).toEqual([gone]);
		expect(s.registry.has("a")).toBe(false);
		expect(s.names()).toEqual(["b"]);
	}
	// Another node that has the same copy was never asked to give it up.
	expect(await s.registry.takeInventory("node2", [copy("a")])).toEqual([]);
	expect(s.where("a")).toEqual(["node2:disk r1 ready"]);
});

test("a tombstone ends when the node no longer has the copy, and a copy brought later stays", async () => {
	await using s = stand();
	await s.registry.takeInventory("node1", [copy("a")]);
	await s.registry.forget("a", [{ model_name: "a", node: "node1", tier: "disk", revision: "r1" }]);
	expect(await s.registry.takeInventory("node1", [copy("a")])).toHaveLength(1);
	expect(await s.registry.takeInventory("node1", [])).toEqual([]);
	expect(await s.registry.takeInventory("node1", [copy("a")])).toEqual([]);
	expect(s.where("a")).toEqual(["node1:disk r1 ready"]);
});

test("a copy that is wanted again is no longer condemned to go", async () => {
	await using s = stand();
	await s.registry.takeInventory("node1", [copy("a"), copy("a", { tier: "dram" })]);
	const gone = { model_name: "a", node: "node1", tier: "disk", revision: "r1" };
	await s.registry.forget("a", [gone, { ...gone, tier: "dram" }]);
	await s.registry.want("a", "node1", "disk");
	const back = await s.registry.takeInventory("node1", [copy("a"), copy("a", { tier: "dram" })]);
	expect(back).toEqual([{ ...gone, tier: "dram" }]);
	expect(s.where("a")).toEqual(["node1:disk r1 ready"]);
});

const ASK = { alive: ["node1", "node2"], force: false, dryRun: false };
const onDisk = (node: string, change = {}) => ({
	model_name: "a",
	node,
	tier: "disk",
	revision: "r1",
	...change,
});

test("of two nodes that ask at the same time to drop their copy, exactly one may", async () => {
	await using s = stand();
	await s.registry.takeInventory("node1", [copy("a")]);
	await s.registry.takeInventory("node2", [copy("a")]);
	const granted = await Promise.all(["node1", "node2"].map((node) => s.condemn(onDisk(node), ASK)));
	expect(granted.filter((it) => it)).toHaveLength(1);
	expect(s.registry.locations("a").filter((it) => it.status === "ready")).toHaveLength(1);
	// And nobody later.
	expect(await s.condemn(onDisk(granted[0] === true ? "node2" : "node1"), ASK)).toBe(false);
});

test("however many nodes ask in whatever order, a ready durable copy stays", async () => {
	await fc.assert(
		fc.asyncProperty(fc.shuffledSubarray([1, 2, 3, 4, 5], { minLength: 2 }), async (order) => {
			await using s = stand();
			const nodes = order.map((n) => `node${n}`);
			for (const node of nodes) await s.registry.takeInventory(node, [copy("a")]);
			const granted = await Promise.all(
				nodes.map((node) => s.condemn(onDisk(node), { ...ASK, alive: nodes })),
			);
			expect(granted.filter((it) => it)).toHaveLength(nodes.length - 1);
		}),
		{ numRuns: 10 },
	);
});

test("the other copy must be ready, durable, of the same revision and on a node that is heard", async () => {
	const others: [string, Partial<ModelCopy>, string[], boolean][] = [
		["a second ready disk", {}, ["node1", "node2"], true],
		["a second disk of the other node", { tier: "disk3" }, ["node1", "node2"], true],
		["a damaged copy", { status: "unavailable" }, ["node1", "node2"], false],
		["a copy in memory", { tier: "dram" }, ["node1", "node2"], false],
		["another revision", { revision: "r2" }, ["node1", "node2"], false],
		["a copy on a node that is away", {}, ["node1"], false],
	];
	for (const [what, change, alive, granted] of others) {
		await using s = stand();
		await s.registry.takeInventory("node1", [copy("a")]);
		await s.registry.takeInventory("node2", [copy("a", change)]);
		expect([what, await s.condemn(onDisk("node1"), { ...ASK, alive })]).toEqual([what, granted]);
	}
});

test("another disk of the same node is another copy; a claim is none", async () => {
	await using s = stand();
	await s.registry.takeInventory("node1", [copy("a"), copy("a", { tier: "disk1" })]);
	expect(await s.condemn(onDisk("node1"), ASK)).toBe(true);
	expect(await s.condemn(onDisk("node1", { tier: "disk1" }), ASK)).toBe(false);
	await s.registry.claim("a", "node2", "disk");
	expect(await s.condemn(onDisk("node1", { tier: "disk1" }), ASK)).toBe(false);
});

test("asking without meaning it changes nothing; force grants the last one too", async () => {
	await using s = stand();
	await s.registry.takeInventory("node1", [copy("a")]);
	await s.registry.takeInventory("node2", [copy("a")]);
	expect(await s.condemn(onDisk("node1"), { ...ASK, dryRun: true })).toBe(true);
	expect(s.where("a")).toEqual(["node1:disk r1 ready", "node2:disk r1 ready"]);
	expect(await s.condemn(onDisk("node1"), ASK)).toBe(true);
	expect(await s.condemn(onDisk("node2"), ASK)).toBe(false);
	expect(await s.condemn(onDisk("node2"), { ...ASK, force: true })).toBe(true);
	expect(s.registry.get("a").status).toBe("unavailable");
});

test("what the node still reports is there: a removal that did not happen brings the copy back", async () => {
	await using s = stand();
	await s.registry.takeInventory("node1", [copy("a")]);
	await s.condemn(onDisk("node1"), { ...ASK, force: true });
	await s.registry.takeInventory("node1", [copy("a")]);
	expect(s.where("a")).toEqual(["node1:disk r1 ready"]);
});

test("services are front URLs by node, of the ready ones alone", async () => {
	await using s = stand();
	await s.register("acme/tiny");
	s.facts.services = [
		service(),
		service({ node: "node2", url: "http://127.0.0.1:9001" }),
		service({ node: "node3", state: "starting" }),
		service({ node: "node4", model_name: "another" }),
	];
	expect(s.registry.get("acme/tiny").services).toEqual({
		node1: "http://127.0.0.1:8001",
		node2: "http://127.0.0.1:9001",
	});
});

test("a page of a thousand models on three nodes is listed in a moment, with any filter", async () => {
	await using s = stand();
	const names = Array.from({ length: 1000 }, (_, i) => `org${i % 7}/model-${i}`);
	for (const node of ["node1", "node2", "node3"]) {
		await s.registry.takeInventory(
			node,
			names.map((name) => copy(name)),
		);
	}
	s.facts.activities = names
		.slice(0, 50)
		.map((model_name) => ({ model_name, tier: "dram", status: "moving" }));
	const before = performance.now();
	for (let page = 1; page <= 5; page++) {
		expect(s.registry.list({ ...EVERYTHING, page }).models).toHaveLength(200);
		s.registry.list({
			...EVERYTHING,
			page,
			type: "llm",
			status: "ready",
			location: { node: "node3", tier: "disk" },
		});
		s.registry.list({ ...EVERYTHING, page, status: "unavailable" });
	}
	expect(s.registry.all()).toHaveLength(1000);
	expect(performance.now() - before).toBeLessThan(5_000);
}, 20_000);

const DETECTED = {
	detector: 1,
	format: "gguf",
	model_type: "llm",
	architecture: "llama",
	parameters: 7,
	precision: "Q4_K_M",
	context_length: 2048,
	license: null,
	weights_bytes: 12,
	kv_cache_bytes_per_token: 64,
	memory_bytes: 131_084,
};

test("what a node detected is shown with a model, under what people said of it", async () => {
	await using s = stand();
	await s.register("a", { metadata: { precision: "fp16", team: "search" } });
	await s.registry.takeInventory("node1", [copy("a", { detected: DETECTED })]);
	const { metadata, detected } = s.registry.get("a");
	expect(detected).toEqual(DETECTED);
	expect(metadata).toEqual({
		format: "gguf",
		architecture: "llama",
		parameters: 7,
		precision: "fp16",
		context_length: 2048,
		weights_bytes: 12,
		kv_cache_bytes_per_token: 64,
		memory_bytes: 131_084,
		team: "search",
	});
	// A node that does not look, of the same revision, takes nothing away; of another revision nothing is known.
	await s.registry.takeInventory("node2", [copy("a")]);
	expect(s.registry.get("a").detected).toEqual(DETECTED);
	await s.registry.takeInventory("node2", [copy("a", { revision: "r2" })]);
	expect(s.registry.get("a").detected).toBeNull();
});

test("a type that a person said stays whatever is detected, until they say auto", async () => {
	await using s = stand();
	const typeOf = (name: string): string => s.registry.get(name).model_type;
	await s.register("guessed", { modelType: "unknown" });
	await s.register("said", { modelType: "vision" });
	const inventory = ["guessed", "said"].map((name) => copy(name, { detected: DETECTED }));
	await s.registry.takeInventory("node1", inventory);
	expect([typeOf("guessed"), typeOf("said")]).toEqual(["llm", "vision"]);
	await s.registry.describe("guessed", { modelType: "embedding" });
	await s.registry.describe("said", { modelType: null });
	await s.registry.takeInventory("node1", inventory);
	expect([typeOf("guessed"), typeOf("said")]).toEqual(["embedding", "llm"]);
	await s.registry.describe("said", { metadata: { team: "x" } });
	expect(s.registry.get("said")).toMatchObject({
		model_type: "llm",
		metadata: { team: "x", format: "gguf" },
	});
	expect(await reasonOf(() => s.registry.describe("none", {}))).toBe("404 MODEL_NOT_FOUND model_not_found");
});

test("whatever is changed in whatever order, answers from memory are those of one that remembers nothing", async () => {
	const name = fc.constantFrom("a", "b", "c");
	const node = fc.constantFrom("node1", "node2");
	const tier = fc.constantFrom("disk", "dram");
	const held = fc.array(fc.record({ name, tier, revision: fc.constantFrom("r1", "r2") }), { maxLength: 4 });
	const step = fc.oneof(
		fc.record({ do: fc.constant("register" as const), name }),
		fc.record({ do: fc.constant("ensure" as const), name }),
		fc.record({ do: fc.constant("describe" as const), name, type: fc.constantFrom("vision", null) }),
		fc.record({ do: fc.constant("inventory" as const), node, held }),
		fc.record({ do: fc.constant("claim" as const), name, node, tier }),
		fc.record({ do: fc.constant("dropClaim" as const), name, node, tier }),
		fc.record({ do: fc.constant("forget" as const), name }),
		fc.record({ do: fc.constant("dropNode" as const), node }),
		fc.record({ do: fc.constant("condemn" as const), name, node }),
		fc.record({ do: fc.constant("busy" as const), name }),
		fc.record({ do: fc.constant("idle" as const) }),
	);
	const answers = (registry: Registry): unknown => ({
		lists: [EVERYTHING, { ...EVERYTHING, type: "vision" }, { ...EVERYTHING, status: "ready" as const }].map(
			(filter) => registry.list(filter),
		),
		models: ["a", "b", "c"].map((each) => (registry.has(each) ? registry.get(each) : null)),
		locations: ["a", "b", "c"].map((each) => registry.locations(each)),
	});
	await fc.assert(
		fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
			await using s = stand();
			const { registry } = s;
			for (const one of steps) {
				// What is asked before is in memory when it is changed.
				answers(registry);
				const ignored = (): void => {};
				if (one.do === "register") await s.register(one.name).catch(ignored);
				else if (one.do === "ensure")
					await registry.ensure({
						modelName: one.name,
						modelType: "unknown",
						modelSize: 0,
						sourceUrl: null,
						metadata: {},
					});
				else if (one.do === "describe")
					await registry.describe(one.name, { modelType: one.type }).catch(ignored);
				else if (one.do === "inventory")
					await registry.takeInventory(
						one.node,
						one.held.map((it) => copy(it.name, { tier: it.tier, revision: it.revision })),
					);
				else if (one.do === "claim") await registry.claim(one.name, one.node, one.tier).catch(ignored);
				else if (one.do === "dropClaim") await registry.dropClaim(one.name, one.node, one.tier);
				else if (one.do === "forget") await registry.forget(one.name, []);
				else if (one.do === "dropNode") await registry.dropNode(one.node);
				else if (one.do === "condemn")
					await s.condemn(
						{ model_name: one.name, node: one.node, tier: "disk", revision: "r1" },
						{ alive: ["node1", "node2"], force: true, dryRun: false },
					);
				else if (one.do === "busy")
					s.facts.activities = [{ model_name: one.name, tier: "disk", status: "downloading" }];
				else s.facts.activities = [];
				expect(answers(registry)).toEqual(answers(s.another()));
			}
		}),
		{ numRuns: 40 },
	);
});

test("what is asked again is answered from memory, and the figures tell it", async () => {
	await using s = stand();
	await s.register("a");
	const before = s.registry.cacheFigures();
	for (let times = 0; times < 3; times++) {
		s.registry.get("a");
		s.names();
	}
	const [models] = s.registry.cacheFigures();
	// The first of six had to be read.
	expect((models?.hits ?? 0) - (before[0]?.hits ?? 0)).toBe(5);
});
