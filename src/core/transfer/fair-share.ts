/**
 * Who may pass next under a rate that flows share, each perhaps with a rate of its own: start-time fair queuing (Goyal,
 * Vin and Cheng, 1996) over buckets that may go into debt, because bytes are paid for after they have come. It knows no
 * clock and waits for nothing: `advance` answers who is released.
 */

export interface Waiting {
	bytes: number;
	release: () => void;
}

export interface FairShare {
	add(flow: string, waiting: Waiting): void;
	remove(flow: string, waiting: Waiting): void;
	/** Those of the flow that still waited. */
	leave(flow: string): Waiting[];
	/** Bytes per second; undefined: no limit. */
	setRate(rate: number | undefined): void;
	setFlowRate(flow: string, rate: number | undefined): void;
	/** Lets time pass up to this moment; who is released, in order. */
	advance(nowMs: number): Waiting[];
	isWaiting(): boolean;
}

/** What may pass at once after a pause, in seconds of the rate. */
const BURST_S = 0.1;
/** Flows that come back at once are let pass before the rate allows it, as far as they are behind the others. */
const LEAST_ALLOWANCE_BYTES = 64 * 1024;

interface Bucket {
	rate: number | undefined;
	/** Negative: what has passed is not paid for yet. */
	tokens: number;
}

interface Queued {
	waiting: Waiting;
	/** What of it is not paid for yet. */
	leftBytes: number;
}

interface Flow extends Bucket {
	queue: Queued[];
	/** Bytes that it has passed, not counting what it did not use while others did. */
	served: number;
}

export function createFairShare(startMs: number): FairShare {
	const all: Bucket = { rate: undefined, tokens: 0 };
	const flows = new Map<string, Flow>();
	/** Where the flow stood that was let pass last. */
	let level = 0;
	let lastMs = startMs;

	const flowOf = (name: string): Flow => {
		const known = flows.get(name);
		if (known !== undefined) return known;
		const flow: Flow = { rate: undefined, tokens: 0, queue: [], served: level };
		flows.set(name, flow);
		return flow;
	};
	const allowance = (): number => Math.max((all.rate ?? 0) * BURST_S, LEAST_ALLOWANCE_BYTES);
	const ready = (): Flow[] => [...flows.values()].filter((flow) => flow.queue.length > 0 && hasTokens(flow));
	/** The one that has passed least of those that may pass. */
	const next = (): Flow | undefined => {
		let least: Flow | undefined;
		for (const flow of ready()) if (least === undefined || flow.served < least.served) least = flow;
		if (least === undefined || hasTokens(all)) return least;
		// One that is behind all others did not come too late, it was not asked.
		return least.served < level && all.tokens > -allowance() ? least : undefined;
	};
	return {
		add(name, one) {
			const flow = flowOf(name);
			if (flow.queue.length === 0) flow.served = Math.max(flow.served, level - allowance());
			flow.queue.push({ waiting: one, leftBytes: one.bytes });
		},
		remove(name, one) {
			const queue = flows.get(name)?.queue ?? [];
			const at = queue.findIndex(({ waiting }) => waiting === one);
			if (at >= 0) queue.splice(at, 1);
		},
		leave(name) {
			const left = flows.get(name)?.queue ?? [];
			flows.delete(name);
			return left.map(({ waiting }) => waiting);
		},
		setRate: (rate) => setRate(all, rate),
		setFlowRate: (name, rate) => setRate(flowOf(name), rate),
		advance(nowMs) {
			const passedS = Math.max(0, nowMs - lastMs) / 1000;
			lastMs = nowMs;
			for (const bucket of [all, ...flows.values()]) fill(bucket, passedS);
			const released: Waiting[] = [];
			for (let flow = next(); flow !== undefined; flow = next()) {
				const [head] = flow.queue;
				if (head === undefined) break;
				const bytes = Math.min(head.leftBytes, mostAtOnce(flow));
				level = Math.max(level, flow.served);
				flow.served += bytes;
				all.tokens -= bytes;
				flow.tokens -= bytes;
				head.leftBytes -= bytes;
				if (head.leftBytes > 0) continue;
				flow.queue.shift();
				released.push(head.waiting);
			}
			return released;
		},
		isWaiting: () => [...flows.values()].some(({ queue }) => queue.length > 0),
	};
}

/** A flow that has a rate and ends takes its debt along, so that it makes none that is worth more than a burst. */
function mostAtOnce({ rate }: Bucket): number {
	return rate === undefined ? Number.POSITIVE_INFINITY : Math.max(rate * BURST_S, 1);
}

function hasTokens({ rate, tokens }: Bucket): boolean {
	return rate === undefined || tokens > 0;
}

function fill(bucket: Bucket, seconds: number): void {
	const { rate } = bucket;
	bucket.tokens = rate === undefined ? 0 : Math.min(bucket.tokens + rate * seconds, rate * BURST_S);
}

/** A debt of a former rate is no longer paid for at a new one; a full bucket is that of the new one. */
function setRate(bucket: Bucket, rate: number | undefined): void {
	if (bucket.rate === rate) return;
	bucket.rate = rate;
	bucket.tokens = rate === undefined ? 0 : rate * BURST_S;
}
