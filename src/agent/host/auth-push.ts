/**
 * Nodes know people's tokens by what the host pushes: after every change to all that can be reached, and to one that
 * reports another version. To a node goes one push at a time, always of what is true then.
 */
import type { Cluster } from "../../core/cluster/cluster.ts";
import type { People } from "../../core/identity/identity.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { asGswarmError } from "../../schema/errors.ts";
import type { Nodes } from "./nodes.ts";

/** How long the answer to a revocation waits for the nodes. */
const PUSH_WAIT_MS = 3_000;
/** A node that was silent for so long has forgotten all people, and cannot let a revoked one in. */
const FORGOTTEN_AFTER_S = 600;

export interface AuthPush extends AsyncDisposable {
	/** Tells every node; resolves when all know it or it took too long, with those that may not know it. */
	everybody(): Promise<string[]>;
	/** A node reported which version it holds. */
	heard(node: string, version: number | undefined): void;
}

export interface AuthPushDependencies {
	cluster: Pick<Cluster, "documents">;
	nodes: Pick<Nodes, "client" | "reachable">;
	people: Pick<People, "snapshot" | "version">;
	clock: Clock;
	log: Log;
}

export function createAuthPush({ cluster, nodes, people, clock, log }: AuthPushDependencies): AuthPush {
	const stop = new AbortController();
	const running = new Map<string, Promise<boolean>>();

	/** Whether the node has taken what was true when this was called, or later. */
	const push = async (node: string): Promise<boolean> => {
		const version = people.version();
		try {
			const answer = await nodes.client(node).call("pushAuth", {
				body: people.snapshot(),
				signal: AbortSignal.any([stop.signal, AbortSignal.timeout(PUSH_WAIT_MS)]),
			});
			return answer.auth_version >= version;
		} catch (error) {
			const { code, reason } = asGswarmError(error);
			log.debug("auth.push_failed", { node, code, reason });
			return false;
		}
	};
	/** After the push that is under way, because that one may carry what was true before. */
	const pushInTurn = (node: string): Promise<boolean> => {
		const turn = (running.get(node) ?? Promise.resolve(true)).then(() => push(node));
		running.set(node, turn);
		return turn.finally(() => {
			if (running.get(node) === turn) running.delete(node);
		});
	};

	return {
		async everybody() {
			const reachable = nodes.reachable().map((view) => view.name);
			const told = new Set<string>();
			const pushes = reachable.map(async (node) => {
				if (await pushInTurn(node)) told.add(node);
			});
			const over = new AbortController();
			await Promise.race([
				Promise.all(pushes),
				clock.sleep(PUSH_WAIT_MS, AbortSignal.any([over.signal, stop.signal])),
			]);
			over.abort();
			return cluster
				.documents()
				.filter((node) => !told.has(node.name) && mayRemember(node))
				.map((node) => node.name);
		},
		heard(node, version) {
			if (version === people.version() || running.has(node) || stop.signal.aborted) return;
			void pushInTurn(node);
		},
		async [Symbol.asyncDispose]() {
			stop.abort();
			await Promise.all(running.values());
		},
	};
}

/** Whether a node could still hold tokens from a former push. */
function mayRemember({ status, last_seen_s: silentS }: ReturnType<Cluster["documents"]>[number]): boolean {
	if ((status as string) === "waiting") return false;
	return silentS === null ? status !== "dead" : silentS <= FORGOTTEN_AFTER_S;
}
