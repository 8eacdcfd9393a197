/** Every guard that is taken out once, by theme. */
import { COMPRESSION_GUARDS } from "./compression.ts";
import { ADOPTION_GUARDS } from "./adoption.ts";
import { COPIES_GUARDS } from "./copies.ts";
import { DATA_PLANE_GUARDS } from "./data-plane.ts";
import { DOOR_GUARDS } from "./door.ts";
import { EVICTION_GUARDS } from "./eviction.ts";
import { FAR_SOURCES_GUARDS } from "./far-sources.ts";
import { GPU_GUARDS } from "./gpus.ts";
import type { Guard } from "./guard.ts";
import { IDENTITY_GUARDS } from "./identity.ts";
import { OPERATION_GUARDS } from "./operations.ts";
import { OUTBOUND_GUARDS } from "./outbound.ts";
import { PATHS_GUARDS } from "./paths.ts";
import { PEOPLE_GUARDS } from "./people.ts";
import { QUEUE_GUARDS } from "./queue.ts";
import { READERS_GUARDS } from "./readers.ts";
import { SOURCES_GUARDS } from "./sources.ts";
import { SWARM_GUARDS } from "./swarm.ts";
import { TRANSPORT_GUARDS } from "./transport.ts";
import { WORK_GUARDS } from "./work.ts";

export const GUARDS: readonly Guard[] = [
	...COMPRESSION_GUARDS,
	...ADOPTION_GUARDS,
	...COPIES_GUARDS,
	...DATA_PLANE_GUARDS,
	...DOOR_GUARDS,
	...EVICTION_GUARDS,
	...FAR_SOURCES_GUARDS,
	...GPU_GUARDS,
	...IDENTITY_GUARDS,
	...OPERATION_GUARDS,
	...OUTBOUND_GUARDS,
	...PATHS_GUARDS,
	...PEOPLE_GUARDS,
	...QUEUE_GUARDS,
	...READERS_GUARDS,
	...SOURCES_GUARDS,
	...SWARM_GUARDS,
	...TRANSPORT_GUARDS,
	...WORK_GUARDS,
];
