/** What the nodes have, added up: a pure function. */
import type { NodeResources, Resources } from "../../schema/resources.ts";

type Storage = NodeResources["storage"][string];

/** Figures that one node does not tell are missing from the sum, not zero in it; where none tells, the sum is null. */
export function clusterResources(
	nodes: Readonly<Record<string, NodeResources>>,
	missing: readonly string[],
): Resources {
	const all = Object.values(nodes);
	const storage: Resources["storage"] = {};
	for (const one of all)
		for (const [device, usage] of Object.entries(one.storage))
			storage[device] = added(storage[device], usage);
	const cores = all.reduce((count, one) => count + one.compute.cpu.cores, 0);
	const compute: Resources["compute"] = {
		cpu: {
			cores: Math.max(1, cores),
			usage: mean(all.map(({ compute: { cpu } }) => [cpu.usage, cpu.cores])),
		},
	};
	for (const { compute: own } of all) {
		for (const [device, load] of Object.entries(own)) {
			if ("cores" in load || device in compute) continue;
			const same = all.flatMap((one) => {
				const other = one.compute[device];
				return other === undefined || "cores" in other ? [] : [other];
			});
			const temperatures = same.flatMap(({ temperature }) => temperature ?? []);
			compute[device] = {
				usage: mean(same.map(({ usage }) => [usage, 1])),
				temperature: temperatures.length === 0 ? null : Math.max(...temperatures),
				...(same.some(({ simulated }) => simulated === true) ? { simulated: true as const } : {}),
			};
		}
	}
	return {
		storage,
		compute,
		network: {
			bandwidth: {
				in: sum(all.map((one) => one.network.bandwidth.in)),
				out: sum(all.map((one) => one.network.bandwidth.out)),
			},
		},
		nodes: { ...nodes },
		missing_nodes: [...missing],
	};
}

function added(
	sofar: Storage | undefined,
	{ total, used, reserved, available, evictable, simulated }: Storage,
): Storage {
	return {
		total: (sofar?.total ?? 0) + total,
		used: (sofar?.used ?? 0) + used,
		reserved: (sofar?.reserved ?? 0) + reserved,
		available: (sofar?.available ?? 0) + available,
		...(evictable === undefined && sofar?.evictable === undefined
			? {}
			: { evictable: (sofar?.evictable ?? 0) + (evictable ?? 0) }),
		...(simulated === true || sofar?.simulated === true ? { simulated: true as const } : {}),
	};
}

function sum(values: readonly (number | null)[]): number | null {
	const known = values.filter((value) => value !== null);
	return known.length === 0 ? null : known.reduce((total, value) => total + value, 0);
}

/** Weighted, of what is known. */
function mean(values: readonly (readonly [value: number | null, weight: number])[]): number | null {
	let total = 0;
	let weights = 0;
	for (const [value, weight] of values) {
		if (value === null) continue;
		total += value * weight;
		weights += weight;
	}
	return weights === 0 ? null : Math.round((total / weights) * 10) / 10;
}
