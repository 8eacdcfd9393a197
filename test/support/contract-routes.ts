/** The contract's routes with addresses that are well formed, so that tests of all of them take in a new one by itself. */
import { contract, type RouteId } from "../../src/api/contract.ts";
import type { Listener, Role, Route } from "../../src/api/route.ts";

export const LISTENERS: readonly Listener[] = ["host", "node", "peer"];

/** Routes without a role of a caller: everybody, or who knows a secret of another kind. */
export const OPEN: readonly Role[] = ["public", "join", "grant"];

/** One value per parameter that is well formed and names nothing that a test has. */
export const PARAMETER_EXAMPLES: Readonly<Record<string, string>> = {
	model_name: "acme%2Ftiny",
	task_id: "copy-tiny-1",
	service_id: "svc-tiny",
	device: "node1:disk",
	content_id: "a".repeat(64),
	file_index: "0",
	node: "node1",
	token_id: "k3v9x2ma",
	secret_name: "hf",
};

/** Every route, or those of one listener. */
export function routesOf(listener?: Listener): [RouteId, Route][] {
	const all = Object.entries(contract) as [RouteId, Route][];
	return all.filter(([, route]) => listener === undefined || route.on.includes(listener));
}

/** The path of a route with its parameters filled in. @throws Error for a parameter that has no example yet */
export function pathOf(route: Route, values: Readonly<Record<string, string>> = PARAMETER_EXAMPLES): string {
	return route.path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => {
		const value = values[name];
		if (value === undefined)
			throw new Error(`${route.path}: give ${name} an example in test/support/contract-routes.ts`);
		return value;
	});
}
