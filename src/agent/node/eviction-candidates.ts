/**
 * The copies on a tier of this node as candidates for eviction: who holds each, where else its bytes are, on this node
 * and on others, and what it costs to bring them back. Nothing is chosen here.
 */
import type { EvictionCandidate, Storage } from "../../core/storage/storage.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { Rates } from "./rates.ts";

export interface RevisionKey {
	model_name: string;
	revision: string;
}

/** Copies of a revision on other nodes that are alive. */
export interface Whereabouts extends RevisionKey {
	/** On durable tiers. */
	durable: number;
	all: number;
}

/** What other nodes hold, by revision. */
export type Elsewhere = ReadonlyMap<string, Whereabouts>;

export interface Candidates {
	/** The copies on a tier as candidates. */
	on(tier: string, elsewhere: Elsewhere): EvictionCandidate[];
	/** Asked only about what this node has on no other durable tier. */
	askHost(tier: string): Promise<Elsewhere>;
}

export interface CandidatesDependencies {
	storage: Storage;
	rates: Rates;
	/** Asks the host; nothing where it is away. */
	whereabouts(revisions: readonly RevisionKey[]): Promise<Whereabouts[]>;
	/** The copies that tasks in the queue are about to read. */
	awaited(): { model: string; tier: string; why: string }[];
	/** Whether somebody said that the copy will be used soon. */
	wantedSoon?: ((copy: ModelCopy) => boolean) | undefined;
}

/** Revisions that the host is asked about at once. */
const MAX_ASKED = 1_000;

export function createCandidates(d: CandidatesDependencies): Candidates {
	const { storage } = d;
	/** Files of others may go or change without us. */
	const isSafe = (copy: ModelCopy): boolean =>
		storage.tier(copy.tier).durable && copy.place !== "adopted" && copy.status === "ready";
	/** Of the same model: other models with the same bytes are not what somebody would ask for. */
	const otherPlaces = ({ model_name: model, revision, tier }: ModelCopy): ModelCopy[] =>
		storage
			.copies({ model })
			.filter((copy) => copy.revision === revision && copy.tier !== tier && copy.status === "ready");
	const costOf = (copy: ModelCopy, isHere: boolean, isAway: boolean): number | null => {
		// What is damaged is worth nothing where it lies.
		if (copy.status !== "ready") return 0;
		if (isHere) return d.rates.secondsFor("local", copy.size_bytes);
		if (isAway) return d.rates.secondsFor("peer", copy.size_bytes);
		return isFetchable(copy) ? d.rates.secondsFor("web", copy.size_bytes) : null;
	};
	return {
		on(tier, elsewhere) {
			const { durable } = storage.tier(tier);
			const awaited = Map.groupBy(d.awaited(), (one) => `${one.model} ${one.tier}`);
			return storage
				.copies({ tier })
				.filter((copy) => copy.status === "ready" || !durable)
				.map((copy): EvictionCandidate => {
					const others = otherPlaces(copy);
					const away = elsewhere.get(revisionOf(copy));
					const tasks = awaited.get(`${copy.model_name} ${tier}`) ?? [];
					return {
						model: copy.model_name,
						revision: copy.revision,
						tier,
						// What other copies have too goes with the last of them: each counts for a part of it.
						sizeBytes: storage.bytesShare(copy),
						readyAt: copy.ready_at,
						lastUsedAt: copy.last_used_at ?? null,
						pinned: copy.pinned ?? false,
						holders: [...storage.holders(copy), ...tasks.map(({ why }) => why)],
						purpose: copy.purpose ?? "asked",
						wantedSoon: d.wantedSoon?.(copy),
						place: copy.place ?? "store",
						durable,
						otherDurableCopies: others.filter(isSafe).length + (away?.durable ?? 0),
						costToBringBackS: costOf(copy, others.length > 0, (away?.all ?? 0) > 0),
					};
				});
		},
		async askHost(tier) {
			const open = storage.copies({ tier }).filter((copy) => !otherPlaces(copy).some(isSafe));
			const answers: Whereabouts[] = [];
			for (let at = 0; at < open.length; at += MAX_ASKED)
				answers.push(
					...(await d.whereabouts(
						open.slice(at, at + MAX_ASKED).map(({ model_name, revision }) => ({ model_name, revision })),
					)),
				);
			return new Map(answers.map((answer) => [revisionOf(answer), answer]));
		},
	};
}

/** Whether the model can be had from its source again. */
export function isFetchable({ source_url }: Pick<ModelCopy, "source_url">): boolean {
	return FETCHABLE.test(source_url ?? "");
}

const FETCHABLE = /^(hf|ollama|oci|s3|gs|https?|file):/;

function revisionOf({ model_name, revision }: RevisionKey): string {
	return `${model_name}@${revision}`;
}
