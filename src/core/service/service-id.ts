/** Names of services: whoever knows where a model is served knows the id. */
import { sha256Hex } from "../../platform/hash.ts";

/** One service per model, node and tier: starting it twice is starting it once. */
export function serviceIdOf(model: string, node: string, tier: string): string {
	const readable = model.replaceAll("/", "--").slice(0, 60);
	return `svc-${readable}-${node}-${tier}-${sha256Hex(`${model}\n${node}\n${tier}`).slice(0, 4)}`;
}
