/** A model's status from its locations and from what nodes are doing to it: a pure function. */
import type { ModelStatus } from "../../schema/model.ts";

export interface Activity {
	model_name: string;
	tier: string;
	status: "queued" | "downloading" | "moving";
}

const ORDER: readonly ModelStatus[] = ["ready", "moving", "downloading", "queued", "unavailable"];

/** `ready` if any location is, else moving, downloading, queued, unavailable in that order. */
export function modelStatus(
	locations: readonly ModelStatus[],
	activities: readonly Activity["status"][],
): ModelStatus {
	const seen = new Set<ModelStatus>([...locations, ...activities]);
	return ORDER.find((status) => seen.has(status)) ?? "unavailable";
}
