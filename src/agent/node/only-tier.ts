/** Which device is meant, where the request names none. */
import { invalid, modelNotFound } from "../../schema/errors.ts";

/** @throws 404 model_not_found, 400 ambiguous_device */
export function onlyTier(tiers: string[], model: string, nodeName: string): string {
	const [first] = tiers;
	if (first === undefined) throw modelNotFound(model, nodeName);
	if (tiers.length === 1) return first;
	throw invalid(
		"ambiguous_device",
		`${JSON.stringify(model)} is on ${tiers.join(" and ")} of ${nodeName}.`,
		{ devices: tiers },
		"Name one with `device`.",
	);
}
