/**
 * Many models: who has to go from a full tier of 10,000, and a page of a list of 100,000, on a host and on a node, with
 * a change of the list now and then. Ours alone: there is no peer for it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { modelPage } from "../src/agent/node/model-view.ts";
import { createRegistry, registryModule } from "../src/core/registry/registry.ts";
import { CopyIndex, keyOf } from "../src/core/storage/copy-index.ts";
import { type CopyRow, toModelCopy } from "../src/core/storage/copy-store.ts";
import { chooseVictims, type EvictionCandidate, type Storage } from "../src/core/storage/storage.ts";
import { systemClock } from "../src/platform/clock.ts";
import { openInlineDatabase } from "../src/platform/database.ts";
import type { ModelCopy } from "../src/schema/model.ts";
import { parseModelName, parseRevision } from "../src/schema/names.ts";
import type { BenchContext, Measured } from "./row.ts";

const GOALS = {
	choose: { name: "eviction: who goes, of 10,000 copies", goal: { oursBelow: 10 } },
	host: { name: "host: page of 100,000 models, p99", goal: { oursBelow: 50 } },
	node: { name: "node: page of 100,000 models, p99", goal: { oursBelow: 50 } },
} as const;

const CANDIDATES = 10_000;
const ROUNDS = 5;
const WARM_UPS = 3;
const PAGES = 1_000;
/** So many pages are read between two changes of what is listed. */
const CHANGE_EVERY = 250;

export async function benchTiers({ say, quick }: BenchContext): Promise<Measured[]> {
	const models = quick ? 2_000 : 100_000;
	say("who goes");
	const choose = Array.from({ length: ROUNDS + WARM_UPS }, (_, round) => chooseOnce(round)).slice(WARM_UPS);
	say("pages of a host");
	const host = await pagesOfHost(models);
	say("pages of a node");
	const node = await pagesOfNode(models);
	return [
		{ ...GOALS.choose, unit: "ms", ours: choose, peer: undefined },
		{ ...GOALS.host, unit: "ms", ours: host, peer: undefined },
		{ ...GOALS.node, unit: "ms", ours: node, peer: undefined },
	];
}

function chooseOnce(round: number): number {
	const candidates = Array.from({ length: CANDIDATES }, (_, i): EvictionCandidate => {
		const at = (i * 7919 + round * 104_729) % CANDIDATES;
		return {
			model: `org/model-${i}`,
			revision: "main",
			tier: "dram",
			sizeBytes: 1e9 + at * 1e6,
			readyAt: 1e6 - at,
			lastUsedAt: at % 3 === 0 ? null : 1e6 - (at % 997),
			pinned: at % 50 === 0,
			holders: [],
			purpose: at % 10 === 0 ? "preload" : "asked",
			place: "store",
			durable: false,
			otherDurableCopies: 1,
			costToBringBackS: 1 + (at % 70),
		};
	});
	const startMs = performance.now();
	chooseVictims(candidates, { needBytes: 50e9 * (round + 1), nowS: 1e6 });
	return performance.now() - startMs;
}

async function pagesOfHost(models: number): Promise<number[]> {
	const directory = mkdtempSync(join(tmpdir(), "gswarm-bench-"));
	try {
		await using db = openInlineDatabase(join(directory, "agent.sqlite"), [registryModule]);
		const facts = { activities: () => [], services: () => [], nodeStatus: () => "alive" };
		const registry = createRegistry({ db, clock: systemClock, facts });
		const copies = Array.from({ length: models }, (_, i) => toModelCopy(rowAt(i), new Map()));
		await registry.takeInventory("node1", copies);
		const anything = { type: undefined, location: undefined, status: undefined };
		let changes = 0;
		return await percentiles(
			async () => {
				const modelName = `new/model-${changes++}`;
				await registry.register({ modelName, modelType: "llm", modelSize: 1, sourceUrl: null, metadata: {} });
			},
			(page) => registry.list({ ...anything, page, perPage: 20 }),
			models,
		);
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
}

function pagesOfNode(models: number): Promise<number[]> {
	const rows = new CopyIndex();
	for (let i = 0; i < models; i++) rows.set(keyOf(rowAt(i)), rowAt(i));
	const storage: Pick<Storage, "copies" | "models"> = {
		copies: (of) =>
			of !== undefined && "model" in of
				? [...rows.ofModel(of.model)].map((row) => toModelCopy(row, new Map()))
				: [],
		models: () => rows.names(),
	};
	const facts = {
		nodeName: "node1",
		storage,
		holdings: { onGpus: (): ModelCopy[] => [] },
		services: { list: () => [] } as never,
		activities: () => [],
	};
	const anything = { type: undefined, tier: undefined, status: undefined };
	let changes = models;
	return percentiles(
		() => {
			const row = rowAt(changes++);
			rows.set(keyOf(row), row);
			return Promise.resolve();
		},
		(page) => modelPage(facts, anything, { page, perPage: 20 }),
		models,
	);
}

/** The 99th percentile of each round, in ms. */
async function percentiles(
	change: () => Promise<void>,
	read: (page: number) => unknown,
	models: number,
): Promise<number[]> {
	const found: number[] = [];
	for (let round = 0; round <= ROUNDS; round++) {
		const times: number[] = [];
		for (let i = 0; i < PAGES; i++) {
			if (i % CHANGE_EVERY === 0) await change();
			const page = 1 + ((i * 7919) % Math.floor(models / 20));
			const startMs = performance.now();
			read(page);
			times.push(performance.now() - startMs);
		}
		times.sort((a, b) => a - b);
		// The first one warms up.
		if (round > 0) found.push(times[Math.ceil(times.length * 0.99) - 1] ?? 0);
	}
	return found;
}

function rowAt(i: number): CopyRow {
	return {
		tier: "disk",
		model: parseModelName(`org${i % 100}/model-${i}`),
		revision: parseRevision("main"),
		state: i % 10 === 0 ? "unavailable" : "ready",
		contentId: "c".repeat(64),
		sizeBytes: 1000 + i,
		modelType: i % 3 === 0 ? "embedding" : "llm",
		sourceUrl: "hf:org/model@main",
		format: "gguf",
		readyAt: 1e6,
		bootId: null,
		lastUsedAt: null,
		pinned: false,
		purpose: "asked",
		place: "store",
		adoptedFrom: null,
	};
}
