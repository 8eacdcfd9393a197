/** Rows of the services of this node. The instance in memory is the truth while the agent runs; the row is what a later agent finds. */
import type { Database as Sqlite } from "bun:sqlite";
import type { Database, WriterModule } from "../../platform/database.ts";
import type { ModelName, Revision, ServiceId } from "../../schema/names.ts";
import type { Framework, InstanceState } from "../../schema/service.ts";
import type { ServiceConfig } from "./service-config.ts";
import migration1 from "./sql/0001_service.sql" with { type: "text" };
import migration2 from "./sql/0002_names.sql" with { type: "text" };

export interface ServiceRow {
	service_id: ServiceId;
	model_name: ModelName;
	revision: Revision;
	tier: string;
	model_path: string;
	framework: Framework;
	port: number | null;
	/** JSON of a ServiceConfig. */
	config: string;
	state: InstanceState;
	created_at: number;
	instance_id: string | null;
	pid: number | null;
	start_time: string | null;
	boot_id: string | null;
	base_url: string | null;
	started_at: number | null;
	ready_s: number | null;
	restarts: number;
	requests: number;
	error: string | null;
	/** What requests ask for, besides MODEL@REVISION; null: nothing else. */
	served_name: ModelName | null;
}

const serviceWrites = {
	put(db: Sqlite, row: ServiceRow): void {
		db.query(
			`INSERT OR REPLACE INTO service (service_id, model_name, revision, tier, model_path, framework, port, config,
			 state, created_at, instance_id, pid, start_time, boot_id, base_url, started_at, ready_s, restarts, requests, error, served_name)
			 VALUES ($service_id, $model_name, $revision, $tier, $model_path, $framework, $port, $config,
			 $state, $created_at, $instance_id, $pid, $start_time, $boot_id, $base_url, $started_at, $ready_s, $restarts, $requests, $error, $served_name)`,
		).run({ ...row });
	},
	remove(db: Sqlite, serviceId: string): void {
		db.query("DELETE FROM service WHERE service_id = ?1").run(serviceId);
	},
};

export const serviceModule = {
	room: "service",
	migrations: [migration1, migration2],
	writes: serviceWrites,
} satisfies WriterModule;

export interface ServiceStore {
	put(row: ServiceRow): Promise<void>;
	remove(serviceId: ServiceId): Promise<void>;
	all(): ServiceRow[];
}

export function createServiceStore({ db }: { db: Database }): ServiceStore {
	const writer = db.writer(serviceModule);
	return {
		put: (row) => writer.put(row),
		remove: (serviceId) => writer.remove(serviceId),
		all: () => db.read.query<ServiceRow, []>("SELECT * FROM service ORDER BY created_at, service_id").all(),
	};
}

export function parseConfig(row: ServiceRow): ServiceConfig {
	return JSON.parse(row.config) as ServiceConfig;
}
