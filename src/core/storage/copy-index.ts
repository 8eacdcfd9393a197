/** The rows of copies in memory, found by place, model and tier without looking at all of them. */
import type { CopyKey, CopyRow } from "./copy-store.ts";

export class CopyIndex {
	readonly #rows = new Map<string, CopyRow>();
	readonly #byModel = new Map<string, Map<string, CopyRow>>();
	readonly #byTier = new Map<string, Map<string, CopyRow>>();
	readonly #bytes = new Map<string, number>();
	/** How many listed rows each model has. */
	readonly #listed = new Map<string, number>();
	/** Of models with a listed row, in order; undefined until somebody asks, and then kept so. */
	#names: string[] | undefined;
	/** Names by filter, as long as nothing changes. */
	readonly #chosen = new Map<string, readonly string[]>();

	get(key: string): CopyRow | undefined {
		return this.#rows.get(key);
	}

	has(key: string): boolean {
		return this.#rows.has(key);
	}

	/** In the order in which they came. */
	values(): IterableIterator<CopyRow> {
		return this.#rows.values();
	}

	ofModel(model: string): Iterable<CopyRow> {
		return this.#byModel.get(model)?.values() ?? [];
	}

	/** Of all models with a listed row, in order; of those that `choose` chooses by their listed rows. */
	names(filter?: { key: string; choose: (rows: readonly CopyRow[]) => boolean }): readonly string[] {
		this.#names ??= [...this.#listed.keys()].sort();
		if (filter === undefined) return this.#names;
		const { key, choose } = filter;
		const known = this.#chosen.get(key);
		if (known !== undefined) return known;
		const names = this.#names.filter((name) => choose([...this.ofModel(name)].filter(isListed)));
		const [oldest] = this.#chosen.keys();
		if (this.#chosen.size >= MAX_CHOSEN && oldest !== undefined) this.#chosen.delete(oldest);
		this.#chosen.set(key, names);
		return names;
	}

	onTier(tier: string): Iterable<CopyRow> {
		return this.#byTier.get(tier)?.values() ?? [];
	}

	/** Of all copies in a tier's own directory, whatever their state. */
	bytesOn(tier: string): number {
		return this.#bytes.get(tier) ?? 0;
	}

	set(key: string, row: CopyRow): void {
		const before = this.#rows.get(key);
		this.#rows.set(key, row);
		// A use changes no list.
		if (before?.state !== row.state || before.modelType !== row.modelType) this.#chosen.clear();
		this.#count(row.model, Number(isListed(row)) - Number(isListed(before)));
		put(this.#byModel, row.model, key, row);
		put(this.#byTier, row.tier, key, row);
		this.#bytes.set(row.tier, this.bytesOn(row.tier) + bytesOf(row) - bytesOf(before));
	}

	delete(key: string): void {
		const row = this.#rows.get(key);
		if (row === undefined) return;
		this.#rows.delete(key);
		take(this.#byModel, row.model, key);
		take(this.#byTier, row.tier, key);
		this.#chosen.clear();
		this.#count(row.model, -Number(isListed(row)));
		this.#bytes.set(row.tier, this.bytesOn(row.tier) - bytesOf(row));
	}

	#count(model: string, change: number): void {
		if (change === 0) return;
		const before = this.#listed.get(model) ?? 0;
		const now = before + change;
		if (now === 0) this.#listed.delete(model);
		else this.#listed.set(model, now);
		if (this.#names === undefined) return;
		if (before === 0) this.#names.splice(placeInOrder(this.#names, model), 0, model);
		else if (now === 0) this.#names.splice(placeInOrder(this.#names, model), 1);
	}
}

/** Filters whose names are kept. */
const MAX_CHOSEN = 16;

/** Whether it is a copy for who asks: neither on its way in nor out. */
export function isListed(row: CopyRow | undefined): row is CopyRow {
	return row?.state === "ready" || row?.state === "unavailable";
}

/** As a key of the index. */
export function keyOf({ tier, model, revision }: CopyKey): string {
	return `${tier} ${model}@${revision}`;
}

/** Adopted files lie elsewhere and take no room of the tier. */
function bytesOf(row: CopyRow | undefined): number {
	return row?.place === "store" ? row.sizeBytes : 0;
}

/** Where a name is, or would be. */
export function placeInOrder(names: readonly string[], name: string): number {
	let [from, to] = [0, names.length];
	while (from < to) {
		const middle = (from + to) >> 1;
		if ((names[middle] as string) < name) from = middle + 1;
		else to = middle;
	}
	return from;
}

function put(index: Map<string, Map<string, CopyRow>>, by: string, key: string, row: CopyRow): void {
	const some = index.get(by);
	if (some === undefined) index.set(by, new Map([[key, row]]));
	else some.set(key, row);
}

function take(index: Map<string, Map<string, CopyRow>>, by: string, key: string): void {
	const some = index.get(by);
	some?.delete(key);
	if (some?.size === 0) index.delete(by);
}
