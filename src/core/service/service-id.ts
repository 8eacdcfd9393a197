/** Names of services: whoever knows where a model is served knows the id. */
import { sha256Hex } from "../../platform/hash.ts";

/**
 * One service per model, node and tier: starting it twice is starting it once. With a revision, one for that besides.
 */
export function serviceIdOf(model: string, node: string, tier: string, revision?: string): string {
	const readable = model.replaceAll("/", "--").slice(0, 60);
	const what = revision === undefined ? [model, node, tier] : [model, node, tier, revision];
	const end = sha256Hex(what.join("\n")).slice(0, revision === undefined ? 4 : 8);
	return `svc-${readable}-${node}-${tier}-${end}`;
}
