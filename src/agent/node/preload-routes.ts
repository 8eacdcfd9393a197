/** The node's routes about what will be wanted in memory. */
import type { Contract } from "../../api/contract.ts";
import { MAX_AHEAD_S } from "../../api/contract/preload.ts";
import type { BodyOf } from "../../api/route.ts";
import { invalid, notFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { NodeRequests, NodeRouteDependencies } from "./node-requests.ts";

type PreloadRoutes = Pick<Handlers<"node">, "hintModel" | "dropHint" | "getPreload">;

export function preloadRoutes(
	d: Pick<NodeRouteDependencies, "nodeName" | "clock" | "preloading">,
	{ tierHere }: Pick<NodeRequests, "tierHere">,
): PreloadRoutes {
	return {
		hintModel: async ({ params, body }) => {
			const model = parseModelName(params.model_name);
			if (body.device !== undefined && tierHere(body.device) !== "dram") {
				throw invalid(
					"bad_device",
					"A model can be brought into memory ahead of its use, and nowhere else.",
					{ device: body.device },
					`Name ${d.nodeName}:dram, or no device.`,
				);
			}
			const fromS = hintedFrom(body, d.clock.nowMs() / 1000);
			return d.preloading.hint(model, { fromS, untilS: fromS + body.for_s });
		},
		dropHint: async ({ params }) => {
			const model = parseModelName(params.model_name);
			return { model_name: model, dropped: await d.preloading.dropHint(model) };
		},
		getPreload: ({ query }) => {
			if (query.node !== undefined && query.node !== d.nodeName)
				throw notFound("node", query.node, `This is ${d.nodeName}.`);
			return { plans: [d.preloading.explain()] };
		},
	};
}

/** Seconds since the epoch. @throws 400 bad_field for two times, or one that is over or too far ahead */
function hintedFrom({ in_s: inS, at, for_s: forS }: BodyOf<Contract["hintModel"]>, nowS: number): number {
	if (inS !== undefined && at !== undefined)
		throw invalid("bad_field", "Give `in_s` or `at`, not both.", { field: "at" });
	const fromS = at ?? nowS + (inS ?? 0);
	if (fromS + forS <= nowS)
		throw invalid("bad_field", `What was wanted until ${fromS + forS} is over.`, { field: "at" });
	if (fromS > nowS + MAX_AHEAD_S) {
		throw invalid(
			"bad_field",
			`What is wanted from ${fromS} on is more than ${MAX_AHEAD_S} s ahead.`,
			{ field: "at" },
			"Say it nearer to its time.",
		);
	}
	return fromS;
}
