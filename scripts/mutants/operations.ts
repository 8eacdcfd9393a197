/** Guards of operations that nodes do parts of, and of the API of queues. */
import type { Guard } from "./guard.ts";

const HOST = "src/agent/host/dispatch.ts";
const NODE = "src/agent/node/hosted-work.ts";
const TOKENS = ["test/cluster/operations-tokens.test.ts"];
const ROUTES = ["test/agent/queue-routes.test.ts"];
const CLUSTER = ["test/cluster/queue-cluster.test.ts"];

export const OPERATION_GUARDS: readonly Guard[] = [
	{
		name: "part_revoked_before_it_came",
		file: NODE,
		find: "if (floor?.revoked === true && isSameToken(floor.token, token))",
		replace: "if (false)",
		tests: TOKENS,
	},
	{
		name: "part_under_an_older_token",
		file: NODE,
		find: "if (isStaleToken(floor.token, token))",
		replace: "if (false)",
		tests: TOKENS,
	},
	{
		name: "host_is_asked_before_destruction",
		file: NODE,
		find: "await ask(token);",
		replace: "",
		tests: TOKENS,
	},
	{
		name: "lease_that_ended",
		file: NODE,
		find: "if (!stop.signal.aborted) await lookAround();",
		replace: "",
		tests: TOKENS,
	},
	{
		name: "answer_to_another_token",
		file: HOST,
		find: "return isSameToken(token, given) ? given : undefined;",
		replace: "return given;",
		tests: TOKENS,
	},
	{
		name: "operation_that_has_ended",
		file: HOST,
		find: "if (status === undefined || isTerminal(status))",
		replace: "if (false)",
		tests: TOKENS,
	},
	{
		name: "confirmed_for_its_token",
		file: HOST,
		find: "if (isSameToken(held.token, token)) return;",
		replace: "return;",
		tests: TOKENS,
	},
	{
		name: "confirmed_for_its_node",
		file: HOST,
		find: "if (held.node !== node)",
		replace: "if (false)",
		tests: TOKENS,
	},
	{
		name: "host_that_was_replaced",
		file: HOST,
		find: " || known.has(node)) return false",
		replace: ") return false",
		tests: TOKENS,
	},
	{
		name: "cancel_reaches_the_node",
		file: HOST,
		find: "const task = await revoke(part);",
		replace: "const task = undefined as TaskDocument | undefined;",
		tests: TOKENS,
	},
	{
		name: "cancel_after_the_end",
		file: HOST,
		find: 'if (task?.status === "completed") return task;',
		replace: "",
		tests: TOKENS,
	},
	{
		name: "retry_as_the_submit",
		file: "src/agent/retry-rights.ts",
		find: "if (caller !== undefined && !allows(caller.role, needed))",
		replace: "if (false)",
		tests: ROUTES,
	},
	{
		name: "retry_with_force",
		file: "src/agent/retry-rights.ts",
		find: "isForced ? (route.forceRole ?? route.role) : route.role",
		replace: "route.role",
		tests: ROUTES,
	},
	{
		name: "operation_header_from_the_host_alone",
		file: "src/agent/node/node-requests.ts",
		find: 'if (caller?.role === "host") return parseToken(text);',
		replace: "return parseToken(text);",
		tests: CLUSTER,
	},
	{
		name: "cursor_of_every_queue",
		file: "src/agent/host/cluster-pages.ts",
		find: "else if (last !== undefined) after[queue] = cursorOf(last);",
		replace: "",
		tests: CLUSTER,
	},
	{
		name: "cursor_of_ours",
		file: "src/agent/host/cluster-pages.ts",
		find: 'return value === null || typeof value === "string";',
		replace: "return true;",
		tests: CLUSTER,
	},
	{
		name: "missing_node_is_told",
		file: "src/agent/host/queue-routes.ts",
		find: "missing.push(name);",
		replace: "",
		tests: ["test/agent/host-queue.test.ts"],
	},
	{
		name: "stream_goes_on_after",
		file: "src/agent/host/cluster-stream.ts",
		find: "if (id !== undefined) places.set(given.queue, id);",
		replace: "",
		tests: CLUSTER,
	},
	{
		name: "condemn_token",
		file: "src/agent/host/condemn-store.ts",
		find: "if (operation !== undefined)",
		replace: "if (operation?.n === -1)",
		tests: ["test/cluster/condemn.test.ts"],
	},
	{
		name: "condemn_of_the_running",
		file: "src/core/queue/dispatch.ts",
		find: 'row?.state === "running" && known?.n',
		replace: "known?.n",
		tests: ["test/cluster/condemn.test.ts"],
	},
	{
		name: "host_epoch_outside",
		file: "src/core/queue/recover.ts",
		find: "max(epoch, ?2) + 1",
		replace: "epoch + 1 + 0 * ?2",
		tests: ["test/queue/fence.test.ts"],
	},
	{
		name: "lease_from_when_sent",
		file: "src/agent/node/hosted-work.ts",
		find: "renew(token, fromMs);\n		return task;",
		replace: "renew(token);\n		return task;",
		tests: ["test/cluster/operations-tokens.test.ts"],
	},
	{
		name: "queue_heard_once",
		file: "src/core/queue/elsewhere.ts",
		find: "WHERE task_id = ?1 AND state = 'pending' ORDER BY seq",
		replace: "WHERE task_id = ?1 AND state = 'pending' OR state = 'completed' ORDER BY seq",
		tests: ["test/queue/elsewhere.test.ts"],
	},
	{
		name: "order_of_failed",
		file: "src/agent/host/task-order.ts",
		find: "throw failedAlready({ taskId, root",
		replace: "void ({ taskId, root",
		tests: ["test/cluster/order.test.ts"],
	},
];
