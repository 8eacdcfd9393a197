/** Every room with tables, in the order their migrations run. */
import { clusterModule } from "../core/cluster/cluster.ts";
import { auditModule, identityModule, joinModule } from "../core/identity/identity.ts";
import { preloadModule } from "../core/preload/preload.ts";
import { queueModule } from "../core/queue/queue.ts";
import { registryModule } from "../core/registry/registry.ts";
import { serviceModule } from "../core/service/service.ts";
import { storageModule } from "../core/storage/storage.ts";
import { transferModule } from "../core/transfer/transfer.ts";
import type { WriterModule } from "../platform/database.ts";
import { condemnModule } from "./host/condemn-store.ts";

export const databaseModules: readonly WriterModule[] = [
	identityModule,
	auditModule,
	joinModule,
	clusterModule,
	registryModule,
	queueModule,
	storageModule,
	transferModule,
	serviceModule,
	condemnModule,
	preloadModule,
];
