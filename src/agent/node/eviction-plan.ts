/** Who would go from a device and why each of the others stays, as the API shows it: for files and GPUs alike. */
import { chooseVictims, type EvictionCandidate, judge, type Verdict } from "../../core/storage/storage.ts";
import type { EvictionPlan, JudgedCopy } from "../../schema/eviction.ts";

/** In an answer; all of them are counted. */
const MAX_SHOWN = 1_000;

/** Down to `wantedAvailable` bytes that are available. */
export function planOf(
	{ device, watermarks, usage }: Pick<EvictionPlan, "device" | "watermarks" | "usage">,
	candidates: readonly EvictionCandidate[],
	{ wantedAvailable, nowS }: { wantedAvailable: number; nowS: number },
): EvictionPlan {
	const needBytes = Math.max(0, wantedAvailable - usage.available);
	const choice = chooseVictims(candidates, { needBytes, nowS });
	const going = new Set(choice.victims.map(({ candidate }) => candidateKey(candidate)));
	const judged = judge(candidates, nowS);
	return {
		device,
		watermarks,
		usage,
		wanted_available: wantedAvailable,
		need_bytes: needBytes,
		freed_bytes: choice.freedBytes,
		evictable_bytes: choice.evictableBytes,
		suffices: needBytes <= choice.evictableBytes,
		copies: judged.slice(0, MAX_SHOWN).map((verdict) => shownVerdict(verdict, going)),
		copies_total: judged.length,
	};
}

/** Names it among those of a device. */
export function candidateKey({
	model,
	revision,
	tier,
}: Pick<EvictionCandidate, "model" | "revision" | "tier">): string {
	return `${model}@${revision} ${tier}`;
}

function shownVerdict({ candidate: c, keep, idleS, worth }: Verdict, going: ReadonlySet<string>): JudgedCopy {
	return {
		model_name: c.model,
		revision: c.revision,
		size_bytes: c.sizeBytes,
		ready_at: c.readyAt,
		last_used_at: c.lastUsedAt,
		idle_s: Math.round(idleS),
		purpose: c.purpose,
		holders: [...c.holders],
		other_durable_copies: c.otherDurableCopies,
		cost_to_bring_back_s: c.costToBringBackS,
		worth,
		verdict: keep !== undefined ? "stays" : going.has(candidateKey(c)) ? "goes" : "may_go",
		reason: keep ?? null,
	};
}
