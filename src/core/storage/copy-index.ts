/** The rows of copies in memory, found by place, model and tier without looking at all of them. */
import type { CopyKey, CopyRow } from "./copy-store.ts";

export class CopyIndex {
	readonly #rows = new Map<string, CopyRow>();
	readonly #byModel = new Map<string, Map<string, CopyRow>>();
	readonly #byTier = new Map<string, Map<string, CopyRow>>();
	readonly #bytes = new Map<string, number>();

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
		this.#bytes.set(row.tier, this.bytesOn(row.tier) - bytesOf(row));
	}
}

/** As a key of the index. */
export function keyOf({ tier, model, revision }: CopyKey): string {
	return `${tier} ${model}@${revision}`;
}

/** Adopted files lie elsewhere and take no room of the tier. */
function bytesOf(row: CopyRow | undefined): number {
	return row?.place === "store" ? row.sizeBytes : 0;
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
