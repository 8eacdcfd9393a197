/** How much memory a model's cache of keys and values takes per token, from the shape of its attention. Pure. */

/** What headers tell of attention; undefined where they do not. */
export interface AttentionShape {
	/** That keep keys and values. */
	layers: number | undefined;
	heads: number | undefined;
	/** Heads of keys and values, fewer than `heads` where queries share them; a mean where layers differ. */
	kvHeads: number | undefined;
	hiddenSize: number | undefined;
	/** Elements of one head's key and value; else `hiddenSize / heads`. */
	keyLength?: number | undefined;
	valueLength?: number | undefined;
	/** Of multi-head latent attention: one compressed vector and one rotated key per layer instead of heads. */
	latentRank?: number | undefined;
	ropeLength?: number | undefined;
}

/**
 * Elements per token: `layers × kv_heads × (key length + value length)`, which is `2 × layers × kv_heads × head_dim`
 * where keys are as long as values; times the bytes of an element it is the cache's growth per token. Layers with a
 * sliding window count in full, so that it is the most that a long context takes. Undefined where a part is not known.
 *
 * Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", section 3
 * (https://arxiv.org/abs/2309.06180); fewer heads of keys: Ainslie et al. (https://arxiv.org/abs/2305.13245); latent
 * attention, `layers × (rank + rotated length)`: DeepSeek-V2, section 2.1 (https://arxiv.org/abs/2405.04434).
 */
export function kvElementsPerToken(shape: AttentionShape): number | undefined {
	const { layers, heads, kvHeads, hiddenSize, latentRank, ropeLength } = shape;
	if (layers === undefined) return undefined;
	if (latentRank !== undefined && latentRank > 0 && ropeLength !== undefined)
		return wholeOrNone(layers * (latentRank + ropeLength));
	const headLength = hiddenSize === undefined || heads === undefined ? undefined : hiddenSize / heads;
	const { keyLength = headLength, valueLength = headLength } = shape;
	if (kvHeads === undefined || keyLength === undefined || valueLength === undefined) return undefined;
	return wholeOrNone(layers * kvHeads * (keyLength + valueLength));
}

/** Numbers come from outside: a division by 0 heads, or what no machine has, is no answer. */
function wholeOrNone(elements: number): number | undefined {
	const whole = Math.round(elements);
	return Number.isSafeInteger(whole) && whole > 0 && whole < MAX_ELEMENTS ? whole : undefined;
}

/** A token of the largest models takes some hundred thousand. */
const MAX_ELEMENTS = 1e9;
