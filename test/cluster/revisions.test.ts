import { expect, test } from "bun:test";
import { asGswarmError } from "../../src/schema/errors.ts";
import { localCluster, type LocalCluster } from "../support/cluster.ts";
import { fixtureEngine } from "../support/fixture-engine.ts";
import { hubSnapshot } from "../support/layouts.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const MODEL = "acme/tiny";
const LIMIT_MS = 90_000;
const REV_A = "a".repeat(40);
const REV_B = "b".repeat(40);
const params = { model_name: MODEL };

async function reasonOf(run: Promise<unknown>): Promise<string> {
	try {
		await run;
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

/** A cluster whose nodes have two revisions each, and engines that answer. */
async function twoRevisions(dir: string, nodes: readonly string[]): Promise<LocalCluster> {
	const c = await localCluster({ nodes, importDirectories: [dir], engineCommand: fixtureEngine() });
	const paths = [
		hubSnapshot(dir, MODEL, "a", { "m.gguf": "a".repeat(2000) }, ["v1"]),
		hubSnapshot(dir, MODEL, "b", { "m.gguf": "b".repeat(2000) }),
	];
	for (const node of nodes) {
		for (const path of paths)
			await c.done(c.host.client.call("adoptModel", { params, body: { path, device: `${node}:disk` } }));
	}
	return c;
}

function ask(c: LocalCluster, model: string): Promise<Response> {
	return fetch(`${c.host.url}/v1/chat/completions`, {
		method: "POST",
		headers: { authorization: `Bearer ${c.host.admin}` },
		body: JSON.stringify({ model, messages: [{ role: "user", content: "hello" }], wait_ms: 5 }),
	});
}

test(
	"a served name goes to another revision on every node, and no request to the host's gateway fails meanwhile",
	async () => {
		using dir = tempDir();
		await using c = await twoRevisions(dir.path, ["node1", "node2"]);
		const serve = (more: object) =>
			c.host.client.call("startService", { body: { model_name: MODEL, config: {}, ...more } });
		await c.done(serve({ nodes: ["node1", "node2"] }));
		const served = async () =>
			(await c.host.client.call("listServices", {})).services
				.map((s) => [s.node, s.revision, s.served_name])
				.sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
		expect(await served()).toEqual([
			["node1", REV_B, MODEL],
			["node2", REV_B, MODEL],
		]);
		const statuses: number[] = [];
		let isOver = false;
		const lanes = [0, 1, 2].map(async () => {
			while (!isOver) {
				const answer = await ask(c, MODEL);
				await answer.text();
				statuses.push(answer.status);
			}
		});
		await until("some were answered", () => statuses.length > 20);
		await c.done(serve({ revision: "aaaaaa", replace: true }));
		const before = statuses.length;
		await until("more were answered", () => statuses.length > before + 20);
		isOver = true;
		await Promise.all(lanes);
		expect(new Set(statuses)).toEqual(new Set([200]));
		await until("the host knows", async () => (await served()).every(([, revision]) => revision === REV_A));
		expect(await served()).toEqual([
			["node1", REV_A, MODEL],
			["node2", REV_A, MODEL],
		]);
		// Whoever serves the name again without a word about revisions joins what is there.
		const again = await c.done(serve({ device: "node1:disk" }));
		expect(again.result?.["service_id"]).toBeString();
		expect((await served()).length).toBe(2);
	},
	LIMIT_MS,
);

test(
	"revisions are served side by side by their own names, and the one that nobody serves can be deleted",
	async () => {
		using dir = tempDir();
		await using c = await twoRevisions(dir.path, ["node1"]);
		const serve = (revision: string) =>
			c.host.client.call("startService", { body: { model_name: MODEL, revision, config: {} } });
		await c.done(serve(REV_A.slice(0, 8)));
		expect((await ask(c, `${MODEL}@${REV_A}`)).status).toBe(200);
		expect((await ask(c, MODEL)).status).toBe(404);
		expect(await reasonOf(serve("c".repeat(8)))).toBe("404 model_not_found");
		const remove = (revision: string) =>
			c.host.client.call("deleteModel", { params, query: { device: "node1:disk", revision } });
		expect(await reasonOf(remove(REV_A))).toBe("409 in_use");
		await c.done(remove(REV_B));
		const { location_details: left } = await c.host.client.call("getModel", { params });
		expect(left.map((it) => it.revision)).toEqual([REV_A]);
	},
	LIMIT_MS,
);
