import { expect, test } from "bun:test";
import { join } from "node:path";
import { type Cluster, clusterModule, createCluster } from "../../src/core/cluster/cluster.ts";
import { type Database, openInlineDatabase } from "../../src/platform/database.ts";
import { createLog } from "../../src/platform/log.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { PROTOCOL_VERSION } from "../../src/schema/node.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { type TempDir, tempDir } from "../support/temp-dir.ts";
import { heartbeat, service } from "./beat.ts";

interface Stand extends AsyncDisposable {
	cluster: Cluster;
	clock: FakeClock;
	events: string[];
	join(node: string, change?: Partial<Parameters<Cluster["join"]>[0]>): Promise<void>;
	/** Lets time pass as it does on a host that works: with a tick every second. */
	pass(ms: number): Promise<void>;
	liveness(node?: string): string;
	/** The host again, on the same database. */
	restart(): Promise<Stand>;
}

function stand(dir: TempDir = tempDir(), clock = new FakeClock()): Stand {
	const db: Database = openInlineDatabase(join(dir.path, "agent.sqlite"), [clusterModule]);
	const events: string[] = [];
	const log = createLog({ clock, write: (line) => events.push(JSON.parse(line).event) });
	const cluster = createCluster({ db, clock, log });
	return {
		cluster,
		clock,
		events,
		join: async (node, change = {}) => {
			await cluster.join({
				node,
				publicKey: `key of ${node}`,
				address: "127.0.0.1",
				version: "0.1.0",
				protocolVersion: PROTOCOL_VERSION,
				...change,
			});
		},
		async pass(ms) {
			for (let left = ms; left > 0; left -= 1000) {
				await clock.advance(Math.min(1000, left));
				cluster.tick();
			}
		},
		liveness: (node = "node1") => cluster.view(node).liveness,
		async restart() {
			await db[Symbol.asyncDispose]();
			return stand(dir, clock);
		},
		async [Symbol.asyncDispose]() {
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

async function reasonOf(run: () => unknown): Promise<string> {
	try {
		await run();
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

test("a node that falls silent is suspect after 15 s, unreachable after 30 s, dead after 5 min, to the millisecond", async () => {
	await using s = stand();
	await s.join("node1");
	await s.cluster.beat("node1", heartbeat(), "127.0.0.1");
	for (const [ms, expected] of [
		[14_999, "alive"],
		[1, "suspect"],
		[14_999, "suspect"],
		[1, "unreachable"],
		[269_999, "unreachable"],
		[1, "dead"],
	] as const) {
		await s.pass(ms);
		expect(s.liveness()).toBe(expected);
	}
});

test("a node that says goodbye is unreachable at once, and back with its next beat", async () => {
	await using s = stand();
	await s.join("node1");
	await s.cluster.beat("node1", heartbeat({ seq: 1 }), "127.0.0.1");
	expect(s.liveness()).toBe("alive");
	await s.cluster.beat("node1", heartbeat({ seq: 2, leaving: true }), "127.0.0.1");
	expect(s.liveness()).toBe("unreachable");
	await s.cluster.beat("node1", heartbeat({ seq: 1, incarnation: 2 }), "127.0.0.1");
	expect(s.liveness()).toBe("alive");
});

test("one beat brings a node back from the dead", async () => {
	await using s = stand();
	await s.join("node1");
	await s.cluster.beat("node1", heartbeat(), "127.0.0.1");
	await s.pass(400_000);
	expect(s.liveness()).toBe("dead");
	expect(await s.cluster.beat("node1", heartbeat({ seq: 2 }), "127.0.0.1")).toBe("taken");
	expect(s.liveness()).toBe("alive");
});

test("a node that has not been heard in this life of the host is judged from the host's start", async () => {
	await using first = stand();
	await first.join("node1");
	await first.cluster.beat("node1", heartbeat(), "127.0.0.1");
	await first.pass(200_000);
	await using s = await first.restart();
	expect(s.liveness()).toBe("alive");
	expect(s.cluster.view("node1")).toMatchObject({ apiUrl: "http://127.0.0.1:8001", beat: undefined });
	await s.pass(30_000);
	expect(s.liveness()).toBe("unreachable");
});

test("a pause of the host moves every deadline by its length", async () => {
	await using s = stand();
	await s.join("node1");
	await s.cluster.beat("node1", heartbeat(), "127.0.0.1");
	await s.pass(14_000);
	await s.clock.advance(3_600_000);
	s.cluster.tick();
	expect(s.liveness()).toBe("alive");
	expect(s.events).toContain("cluster.host_paused");
	await s.pass(999);
	expect(s.liveness()).toBe("alive");
	await s.pass(1);
	expect(s.liveness()).toBe("suspect");
});

test("a pause counts although the first thing after it is a request and no tick", async () => {
	await using s = stand();
	await s.join("node1");
	await s.cluster.beat("node1", heartbeat(), "127.0.0.1");
	await s.clock.advance(3_600_000);
	expect(s.liveness()).toBe("alive");
	expect(s.cluster.documents()[0]?.last_seen_s).toBe(0);
});

test("a pause before the first beat of a node counts too", async () => {
	await using s = stand();
	await s.join("node1");
	await s.clock.advance(3_600_000);
	s.cluster.tick();
	expect(s.liveness()).toBe("alive");
});

test("a gap of ten seconds is no pause yet, a millisecond more is", async () => {
	for (const [gapMs, seenS] of [
		[10_000, 10],
		[10_001, 0],
	] as const) {
		await using s = stand();
		await s.join("node1");
		await s.cluster.beat("node1", heartbeat(), "127.0.0.1");
		await s.clock.advance(gapMs);
		s.cluster.tick();
		expect(s.cluster.documents()[0]?.last_seen_s).toBe(seenS);
	}
});

test("jumps of the wall clock change nobody's liveness", async () => {
	await using s = stand();
	await s.join("node1");
	await s.cluster.beat("node1", heartbeat(), "127.0.0.1");
	for (const ms of [86_400_000, -2 * 86_400_000]) {
		s.clock.jumpWall(ms);
		s.cluster.tick();
		expect(s.liveness()).toBe("alive");
	}
});

test("a beat that comes twice, late or from a former start is not taken and keeps nobody alive", async () => {
	await using s = stand();
	await s.join("node1");
	expect(await s.cluster.beat("node1", heartbeat({ incarnation: 2, seq: 5, models: 7 }), "127.0.0.1")).toBe(
		"taken",
	);
	await s.pass(15_000);
	for (const old of [
		{ incarnation: 2, seq: 5 },
		{ incarnation: 2, seq: 4 },
		{ incarnation: 1, seq: 99 },
	]) {
		expect(await s.cluster.beat("node1", heartbeat({ ...old, models: 1 }), "127.0.0.1")).toBe("stale");
	}
	expect(s.liveness()).toBe("suspect");
	expect(s.cluster.documents()[0]?.models).toBe(7);
	expect(await s.cluster.beat("node1", heartbeat({ incarnation: 2, seq: 6 }), "127.0.0.1")).toBe("taken");
	expect(await s.cluster.beat("node1", heartbeat({ incarnation: 3, seq: 1 }), "127.0.0.1")).toBe("taken");
	expect(s.liveness()).toBe("alive");
});

test("a node that joins again with its key may count its beats from the beginning", async () => {
	await using s = stand();
	await s.join("node1");
	await s.cluster.beat("node1", heartbeat({ incarnation: 40, seq: 5 }), "127.0.0.1");
	expect(await s.cluster.beat("node1", heartbeat({ incarnation: 1, seq: 1 }), "127.0.0.1")).toBe("stale");
	await s.join("node1");
	expect(await s.cluster.beat("node1", heartbeat({ incarnation: 1, seq: 1 }), "127.0.0.1")).toBe("taken");
});

test("a name that another key has is refused, before and after a restart of the host", async () => {
	await using first = stand();
	await first.join("node1");
	const thief = { node: "node1", publicKey: "another key", protocolVersion: PROTOCOL_VERSION };
	expect(await reasonOf(() => first.cluster.checkJoin(thief))).toBe("409 node_name_taken");
	expect(await reasonOf(() => first.join("node1", thief))).toBe("409 node_name_taken");
	await using s = await first.restart();
	expect(await reasonOf(() => s.join("node1", thief))).toBe("409 node_name_taken");
	expect(s.cluster.views()).toHaveLength(1);
});

test("of two keys that want one name at the same time exactly one gets it", async () => {
	await using s = stand();
	const ends = await Promise.all(
		["one key", "another key"].map((publicKey) => reasonOf(() => s.join("node1", { publicKey }))),
	);
	expect(ends.sort()).toEqual(["409 node_name_taken", "accepted"]);
});

test("the same key may join again: it keeps its place and its ports, with the new address", async () => {
	await using s = stand();
	await s.join("node1");
	await s.cluster.beat("node1", heartbeat({ api_port: 9001 }), "127.0.0.1");
	const [before] = s.cluster.documents();
	await s.clock.advance(5_000);
	await s.join("node1", { address: "127.0.0.2", version: "0.2.0" });
	expect(s.cluster.documents()).toMatchObject([
		{ joined_at: before?.joined_at, address: "127.0.0.2", api_port: 9001, status: "alive" },
	]);
});

test("the host's own protocol and the one before are spoken, others are refused at the join and at the beat", async () => {
	await using s = stand();
	await s.join("node1");
	for (const [version, expected] of [
		[PROTOCOL_VERSION - 2, "400 protocol_not_supported"],
		[PROTOCOL_VERSION - 1, "accepted"],
		[PROTOCOL_VERSION, "accepted"],
		[PROTOCOL_VERSION + 1, "400 protocol_not_supported"],
	] as const) {
		expect(await reasonOf(() => s.join("node1", { protocolVersion: version }))).toBe(expected);
		const beat = heartbeat({ protocol_version: version, seq: 10 + version });
		expect(await reasonOf(() => s.cluster.beat("node1", beat, "127.0.0.1"))).toBe(expected);
	}
});

test("a beat of a node that never joined is 404", async () => {
	await using s = stand();
	expect(await reasonOf(() => s.cluster.beat("node9", heartbeat(), "127.0.0.1"))).toBe("404 node_not_found");
});

test("an address is an alias of its node, as long as only one has it", async () => {
	await using s = stand();
	await s.join("node1", { address: "10.0.0.1" });
	await s.join("node2", { address: "10.0.0.2" });
	expect(s.cluster.view("10.0.0.2").name).toBe("node2");
	await s.join("node3", { address: "10.0.0.2" });
	expect(await reasonOf(() => s.cluster.view("10.0.0.2"))).toBe("404 node_not_found");
	expect(await reasonOf(() => s.cluster.view("nowhere"))).toBe("404 node_not_found");
});

test("where a node answers is where it last reported from, also after a restart of the host", async () => {
	await using first = stand();
	await first.join("node1");
	await first.cluster.beat("node1", heartbeat({ api_port: 1111, peer_port: 2222 }), "127.0.0.1");
	await first.cluster.beat("node1", heartbeat({ seq: 2, api_port: 1111, peer_port: 2222 }), "::1");
	await first.cluster.beat("node1", heartbeat({ seq: 3, api_port: 1111, peer_port: 3333 }), "::1");
	await using s = await first.restart();
	expect(s.cluster.view("node1")).toMatchObject({
		apiUrl: "http://[::1]:1111",
		peerUrl: "http://[::1]:3333",
	});
});

test("the inventory of a beat is not kept in memory with it", async () => {
	await using s = stand();
	await s.join("node1");
	await s.cluster.beat("node1", heartbeat({ inventory: [] }), "127.0.0.1");
	expect(s.cluster.view("node1").beat).not.toHaveProperty("inventory");
});

test("nodes come in the order of their names, with what they reported and when", async () => {
	await using s = stand();
	for (const node of ["node2", "node10", "node1"]) await s.join(node);
	await s.cluster.beat(
		"node2",
		heartbeat({ models: 3, services: [service({ node: "node2" })] }),
		"127.0.0.1",
	);
	await s.pass(2_500);
	const documents = s.cluster.documents();
	expect(documents.map((it) => it.name)).toEqual(["node1", "node10", "node2"]);
	expect(documents[2]).toMatchObject({ models: 3, services: 1, cpus: 8, last_seen_s: 2.5, status: "alive" });
	expect(documents[0]).toMatchObject({ last_seen_s: null, tiers: {} });
});

test("a node that speaks of another one's services is not listened to", async () => {
	await using s = stand();
	await s.join("node1");
	await s.join("node2");
	const services = [service(), service({ node: "node2", service_id: "svc-2", url: "http://evil.example" })];
	await s.cluster.beat("node1", heartbeat({ services }), "127.0.0.1");
	expect(s.cluster.services().map((it) => it.service_id)).toEqual([service().service_id]);
});

test("services of a node that cannot be reached are not called ready", async () => {
	await using s = stand();
	await s.join("node1");
	const services = [service(), service({ service_id: "svc-2", state: "failed" })];
	await s.cluster.beat("node1", heartbeat({ services }), "127.0.0.1");
	await s.pass(29_999);
	expect(s.cluster.services()).toEqual(services);
	await s.pass(1);
	expect(s.cluster.services().map((it) => it.state)).toEqual(["unhealthy", "failed"]);
	expect(s.cluster.services()[0]?.error).toBe("the node node1 is unreachable");
});

test("what a node tells of models that can have no such name is not believed", async () => {
	await using s = stand();
	await s.join("node1");
	const services = [service(), service({ model_name: "../../etc" })];
	const activities = ["acme/tiny", "a\u0000b"].map((model_name) => ({
		model_name,
		tier: "disk",
		status: "queued" as const,
	}));
	await s.cluster.beat("node1", heartbeat({ services, activities }), "127.0.0.1");
	const { beat } = s.cluster.view("node1");
	expect(beat?.services.map((it) => it.model_name)).toEqual(["acme/tiny"]);
	expect(beat?.activities.map((it) => it.model_name)).toEqual(["acme/tiny"]);
});
