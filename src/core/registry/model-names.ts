/**
 * Which models a list shows, in order: the names alone, read once for each filter and kept until something in the
 * registry changes, so that a page of a hundred thousand models costs no more than its own rows.
 */
import type { Database } from "../../platform/database.ts";
import type { ModelStatus } from "../../schema/model.ts";
import { type Activity, modelStatus } from "./status.ts";

export interface NameFilter {
	type: string | undefined;
	/** A device (`node1:disk`), a node (`node1`) or a tier (`disk`). */
	location: { node: string | undefined; tier: string | undefined } | undefined;
	status: ModelStatus | undefined;
}

export interface ModelNames {
	/** In order, without doubles. `activities` are what tasks bring or move now. */
	of(filter: NameFilter, activities: readonly Activity[]): readonly string[];
}

/** Filters whose names are kept; the one asked for longest ago is forgotten first. */
const MAX_LISTS = 32;

type Names = readonly string[];

export function createModelNames({ read }: Pick<Database, "read">): ModelNames {
	const versionOf = read.query<{ version: number }, []>("SELECT version FROM registry_version");
	const isImplied = read.query<{ n: number }, [string]>(
		"SELECT 1 AS n FROM registry_model WHERE model_name = ?1 AND implied = 1",
	);
	const column = (sql: string, ...values: string[]): string[] =>
		read
			.query<{ name: string }, string[]>(sql)
			.all(...values)
			.map(({ name }) => name);
	let kept = new Map<string, Names>();
	let keptVersion = -1;
	const keep = (key: string, make: () => Names): Names => {
		const names = kept.get(key) ?? make();
		kept.delete(key);
		kept.set(key, names);
		const [oldest] = kept.keys();
		if (kept.size > MAX_LISTS && oldest !== undefined) kept.delete(oldest);
		return names;
	};
	/** A model that a download named is shown while it comes; when that failed, nothing is known of it. */
	const shown = (): Names =>
		keep("shown", () =>
			column(
				`SELECT model_name AS name FROM registry_model m WHERE implied = 0
				 OR EXISTS (SELECT 1 FROM registry_location s WHERE s.model_name = m.model_name) ORDER BY model_name`,
			),
		);
	const ofType = (type: string): Names =>
		keep(`type ${type}`, () =>
			column("SELECT model_name AS name FROM registry_model WHERE model_type = ?1 ORDER BY model_name", type),
		);
	const at = ({ node, tier }: NonNullable<NameFilter["location"]>): Names =>
		keep(`at ${node ?? ""}:${tier ?? ""}`, () =>
			column(
				`SELECT DISTINCT model_name AS name FROM registry_location
				 WHERE ${node === undefined ? "?1 = ''" : "node = ?1"} AND ${tier === undefined ? "?2 = ''" : "tier = ?2"}
				 ORDER BY model_name`,
				node ?? "",
				tier ?? "",
			),
		);
	const ready = (): Names =>
		keep("ready", () =>
			column(
				"SELECT DISTINCT model_name AS name FROM registry_location WHERE status = 'ready' ORDER BY model_name",
			),
		);
	/** Of those that no task brings: what is stored. */
	const stored = ({ type, location, status }: NameFilter): Names =>
		keep(`all ${JSON.stringify([type, location?.node, location?.tier, status])}`, () => {
			let names = shown();
			if (type !== undefined) names = common(names, ofType(type));
			if (location !== undefined) names = common(names, at(location));
			if (status === "ready") names = common(names, ready());
			else if (status !== undefined) names = without(names, ready());
			return names;
		});

	return {
		of(filter, activities) {
			const [{ version } = { version: 0 }] = versionOf.all();
			if (version !== keptVersion) kept = new Map();
			keptVersion = version;
			const { type, location, status } = filter;
			const names = stored(filter);
			const byName = Map.groupBy(activities, (one) => one.model_name);
			/** What a task does to it now; a model that is ready anywhere is that. */
			const busy = (name: string): ModelStatus | undefined => {
				const some = byName.get(name);
				return some === undefined
					? undefined
					: modelStatus(
							[],
							some.map((one) => one.status),
						);
			};
			// Known by name alone, and shown because it comes.
			const coming = [...byName.keys()].filter(
				(name) =>
					location === undefined &&
					!has(names, name) &&
					isImplied.all(name).length > 0 &&
					(type === undefined || has(ofType(type), name)) &&
					!has(ready(), name),
			);
			if (status === undefined) return merged(names, coming);
			if (status === "ready") return names;
			// Of the others each has the status that a task gives it, or else it is unavailable.
			if (status === "unavailable") return names.filter((name) => !byName.has(name));
			const some = [...byName.keys()].filter((name) => has(names, name) || coming.includes(name));
			return some.filter((name) => busy(name) === status).sort();
		},
	};
}

function has(names: Names, name: string): boolean {
	let [from, to] = [0, names.length];
	while (from < to) {
		const middle = (from + to) >> 1;
		if ((names[middle] as string) < name) from = middle + 1;
		else to = middle;
	}
	return names[from] === name;
}

/** In both; both are in order. */
function common(one: Names, other: Names): string[] {
	const both = new Set(other);
	return one.filter((name) => both.has(name));
}

function without(one: Names, other: Names): string[] {
	const out = new Set(other);
	return one.filter((name) => !out.has(name));
}

function merged(names: Names, more: readonly string[]): Names {
	return more.length === 0 ? names : [...names, ...more].sort();
}
