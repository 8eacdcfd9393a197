/** The cluster's limits, split among its nodes at every beat. */
import { type Cluster, isReachable } from "../../core/cluster/cluster.ts";
import type { KeptLimits, Limits } from "../../core/transfer/transfer.ts";

export interface ClusterBandwidth {
	limits(): Limits;
	/** Resolves when it holds after a restart, too. */
	set(change: Partial<Limits>): Promise<void>;
	/** What a node is told with its beat. */
	shareOf(node: string): Limits;
}

/** A node that receives gets so many times what an idle one keeps for what may begin before its next beat. */
const BUSY_WEIGHT = 8;

export function createClusterBandwidth(cluster: Pick<Cluster, "views">, kept: KeptLimits): ClusterBandwidth {
	let limits = kept.read();
	return {
		limits: () => ({ ...limits }),
		async set(change) {
			limits = { ...limits, ...change };
			await kept.keep(limits);
		},
		shareOf(node) {
			const nodes = cluster
				.views()
				.filter((view) => isReachable(view.liveness) || view.name === node)
				.map(({ name, beat }) => ({ name, isBusy: (beat?.activities.length ?? 0) > 0 }));
			const even = nodes.map(({ name }) => ({ name, isBusy: false }));
			return { down: share(limits.down, nodes, node), up: share(limits.up, even, node) };
		},
	};
}

/** A node's share of a limit: together they are no more than it. Who sends is not known here, so all may send alike. */
export function share(
	limit: number | null,
	nodes: readonly { name: string; isBusy: boolean }[],
	node: string,
): number | null {
	if (limit === null) return null;
	const weight = ({ isBusy }: { isBusy: boolean }): number => (isBusy ? BUSY_WEIGHT : 1);
	const total = nodes.reduce((sum, one) => sum + weight(one), 0);
	const own = nodes.find(({ name }) => name === node);
	return Math.max(1, Math.floor((limit * weight(own ?? { isBusy: false })) / Math.max(1, total)));
}
