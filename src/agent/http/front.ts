/** The listener of one service on a port of its own: the same door as everywhere, then the service's engine. */
import { type Door, type DoorDependencies, createDoor } from "./door.ts";
import { inOwnTime } from "./patience.ts";
import { requireRole } from "./rights.ts";

export function createFrontApp(
	handler: (request: Request) => Promise<Response>,
	dependencies: DoorDependencies,
): Door {
	return createDoor(dependencies, {
		listener: "service",
		isOpenAi: () => true,
		async enter(request, visit) {
			visit.trace.needs = "inference";
			requireRole(dependencies.identity, "inference", visit);
			return inOwnTime(visit.connection, () => handler(request));
		},
	});
}
