/** What every handler that submits to the host's queue, or forwards to a node, needs. */
import type { Cluster } from "../../core/cluster/cluster.ts";
import type { Audit, Identity, Joining, Secrets } from "../../core/identity/identity.ts";
import type { Queue } from "../../core/queue/queue.ts";
import type { Registry } from "../../core/registry/registry.ts";
import type { Gateway } from "../../core/service/service.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import type { Submitted, TaskType } from "../../schema/task.ts";
import type { HostCredentials } from "../credentials.ts";
import { idempotencyKey } from "../http/answers.ts";
import type { AuthPush } from "./auth-push.ts";
import type { CondemnInput } from "./condemn-store.ts";
import type { ClusterBandwidth } from "./cluster-bandwidth.ts";
import type { ForwardRequest } from "./forwarding.ts";
import type { OperationDependencies } from "./operations.ts";
import type { TaskFinder } from "./task-finder.ts";
import { type Order, type TaskOrder, createTaskOrder } from "./task-order.ts";

/** The rooms and facts that the host's routes work with. */
export interface HostRouteDependencies extends OperationDependencies {
	hostName: string;
	clusterId: string;
	publicKey: string;
	/** The cluster's CA, and what it signs. */
	credentials: HostCredentials;
	clock: Clock;
	identity: Identity;
	joining: Joining;
	/** Every node that joins waits for an admin, whatever its join string says. */
	approveJoins: boolean;
	audit: Audit;
	secrets: Secrets;
	registry: Registry;
	cluster: Cluster;
	queue: Queue;
	tasks: TaskFinder;
	gateway: Gateway;
	log: Log;
	uptimeS(): number;
	/** As other machines reach it, for commands that are printed. */
	hostUrl(): string;
	authPush: AuthPush;
	bandwidth: ClusterBandwidth;
	/** Leave for a node to destroy a durable copy; false when it is the last one. @throws 409 stale_token */
	condemn(input: CondemnInput): Promise<boolean>;
	/** Copies that were deleted while their node was away and came back with its inventory. */
	removeAgain(copies: { model_name: string; node: string; tier: string; revision: string }[]): void;
	inventoryVersions: Map<string, string>;
}

export type SubmitBody = Submitted & { node: string };

export interface HostRequests {
	/** Submits an operation; an Idempotency-Key among the headers is honoured. */
	submit(
		type: TaskType,
		model: string,
		request: object,
		more: Partial<Parameters<Queue["submit"]>[0]>,
		headers: Headers,
	): Promise<SubmitBody>;
	/** What a request's `dependencies` are. @throws 400 unknown_dependency; 424 dependency_failed */
	order: TaskOrder["of"];
	tasksBefore: Pick<TaskOrder, "again" | "told">;
	/** Submits work of one node that waits for tasks which are not all there. */
	submitForward(
		forward: ForwardRequest,
		order: Order,
		more: Partial<Parameters<Queue["submit"]>[0]>,
		headers: Headers,
	): Promise<SubmitBody>;
	/** Remembers where the task of an answer runs, and hands the answer on. */
	forwarded<T extends SubmitBody>(answer: T): T;
	/** The caller's Idempotency-Key, for the node that does the work. */
	passKey(headers: Headers): Record<string, string>;
}

export function createHostRequests(d: HostRouteDependencies): HostRequests {
	const submit: HostRequests["submit"] = async (type, model, request, more, headers) => {
		const key = headers.get("idempotency-key");
		const { task, position, estimatedTimeS } = await d.queue.submit({
			type,
			model,
			request: request as Record<string, unknown>,
			priority: "normal",
			...more,
			...(key === null ? {} : { idempotencyKey: idempotencyKey(key) }),
		});
		return {
			task_id: task.task_id,
			status: "queued",
			position,
			estimated_time: estimatedTimeS,
			node: d.hostName,
		};
	};
	const submitForward: HostRequests["submitForward"] = (request, order, more, headers) => {
		const { call, body } = request.forward;
		const { priority } = body;
		return submit(TYPES[call], request.model_name, request, { priority, ...more, ...order.own }, headers);
	};
	const forwarded = <T extends SubmitBody>(answer: T): T => {
		d.tasks.remember(answer.task_id, answer.node);
		return answer;
	};
	const passKey = (headers: Headers): Record<string, string> => {
		const key = headers.get("idempotency-key");
		return key === null ? {} : { "idempotency-key": key };
	};
	const tasksBefore = createTaskOrder(d);
	return { submit, order: tasksBefore.of, tasksBefore, submitForward, forwarded, passKey };
}

const TYPES: Readonly<Record<ForwardRequest["forward"]["call"], TaskType>> = {
	downloadModel: "download",
	copyModel: "copy",
	moveModel: "move",
	verifyModel: "verify",
	uploadModel: "upload",
};
