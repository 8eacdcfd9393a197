import { expect, test } from "bun:test";
import { join } from "node:path";
import {
	keepOwner,
	requireCaller,
	requireForce,
	requireOwnTask,
	requireRole,
} from "../../src/agent/http/rights.ts";
import type { Route } from "../../src/api/route.ts";
import {
	type Caller,
	type CallerRole,
	createIdentity,
	type Identity,
	identityModule,
} from "../../src/core/identity/identity.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { asGswarmError, notFound } from "../../src/schema/errors.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

const route = (change: Partial<Route>): Route => ({
	method: "POST",
	path: "/x",
	summary: "",
	role: "user",
	on: ["host"],
	status: 202,
	...change,
});
const SUBMIT = route({});
const CANCEL = route({ ownTask: true, endsTask: true, status: 200 });
const FORCED = route({ role: "operator", forceRole: "admin" });

const caller = (id: string, role: CallerRole = "user"): Caller => ({
	role,
	id,
	name: id,
	node: undefined,
	expiresAt: null,
});

function stand(): { identity: Identity } & AsyncDisposable {
	const dir = tempDir();
	const db = openInlineDatabase(join(dir.path, "agent.sqlite"), [identityModule]);
	return {
		identity: createIdentity({ db, clock: new FakeClock(), ids: systemIds }),
		async [Symbol.asyncDispose]() {
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

const outcome = async (act: () => unknown): Promise<string> => {
	try {
		await act();
		return "done";
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
};
/** Submits or joins the task `t-1`. */
const submit = (identity: Identity, who: Caller, key?: string) =>
	keepOwner(identity, SUBMIT, {
		caller: who,
		headers: new Headers(key === undefined ? {} : { "idempotency-key": key }),
		answer: { task_id: "t-1" },
	});
const mayCancel = (identity: Identity, who: Caller | undefined, exists: () => unknown = () => {}) =>
	outcome(() => requireOwnTask(identity, who, "t-1", exists));
const cancelled = (identity: Identity, who: Caller) =>
	keepOwner(identity, CANCEL, { caller: who, headers: new Headers(), answer: { task_id: "t-1" } });

test("nobody is refused with 401, a role that does not suffice with 403, one of a node cut off with 503", async () => {
	await using s = stand();
	const need = (role: CallerRole | undefined, needed: Route["role"]) =>
		outcome(() =>
			requireRole(s.identity, needed, {
				caller: role === undefined ? undefined : caller("x", role),
				bearer: undefined,
			}),
		);
	expect(await need(undefined, "viewer")).toBe("401 no_valid_token");
	expect(await need(undefined, "any")).toBe("401 no_valid_token");
	expect(await need(undefined, "public")).toBe("done");
	expect(await need("viewer", "user")).toBe("403 role_not_allowed");
	expect(await need("inference", "any")).toBe("done");
	expect(await need("reader", "viewer")).toBe("done");
	expect(await need("reader", "user")).toBe("503 host_unreachable");
	expect(await outcome(() => requireCaller(s.identity, { caller: undefined, bearer: "x" }))).toBe(
		"401 no_valid_token",
	);
});

test("force needs its own role, and only where it is asked for", async () => {
	const force = (role: CallerRole, query: unknown, of = FORCED) =>
		outcome(() => requireForce(of, caller("x", role), query));
	expect(await force("operator", { force: true })).toBe("403 role_not_allowed");
	expect(await force("operator", { force: false })).toBe("done");
	expect(await force("operator", {})).toBe("done");
	expect(await force("admin", { force: true })).toBe("done");
	// The host has asked its own caller.
	expect(await force("host", { force: true })).toBe("done");
	expect(await force("operator", { force: true }, SUBMIT)).toBe("done");
});

test("a user may cancel what they submitted; whoever joined it takes back their own part, once", async () => {
	await using s = stand();
	const [ann, bob, eve] = [caller("ann"), caller("bob"), caller("eve")];
	await submit(s.identity, ann);
	await submit(s.identity, bob, "key");
	expect(await mayCancel(s.identity, ann)).toBe("done");
	expect(await mayCancel(s.identity, bob)).toBe("done");
	expect(await mayCancel(s.identity, eve)).toBe("403 not_your_task");
	await cancelled(s.identity, bob);
	// Sending the same submission again joins nothing, and gives nothing to take back.
	await submit(s.identity, bob, "key");
	expect(await mayCancel(s.identity, bob)).toBe("409 already_cancelled");
	expect(await mayCancel(s.identity, ann)).toBe("done");
});

test("who sends another one's Idempotency-Key again is answered with that task, and it is not theirs", async () => {
	await using s = stand();
	for (const [key, owner] of [
		["a", caller("ann")],
		["b", caller("boss", "operator")],
		["c", caller("host", "host")],
	] as const) {
		const answer = { task_id: `t-${key}` };
		const headers = new Headers({ "idempotency-key": key });
		await keepOwner(s.identity, SUBMIT, { caller: owner, headers, answer });
		await keepOwner(s.identity, SUBMIT, { caller: caller("eve"), headers, answer });
		expect(s.identity.taskOwners.ownership(answer.task_id, owner.id)).toBe("mine");
		expect(s.identity.taskOwners.ownership(answer.task_id, "eve")).toBe("foreign");
	}
});

test("of a task that is nowhere it is said that it is nowhere", async () => {
	await using s = stand();
	const missing = (): never => {
		throw notFound("task", "t-1");
	};
	expect(await mayCancel(s.identity, caller("ann"), missing)).toBe("404 task_not_found");
});

test("operators, admins and the host cancel any task, and are not written down", async () => {
	await using s = stand();
	for (const role of ["operator", "admin", "host"] as const) {
		expect(await mayCancel(s.identity, caller("x", role))).toBe("done");
		await submit(s.identity, caller("x", role));
	}
	expect(s.identity.taskOwners.ownership("t-1", "x")).toBe("foreign");
});

test("answers that name no task, or start none, make nobody an owner", async () => {
	await using s = stand();
	const ann = caller("ann");
	for (const answer of [undefined, null, "t-1", {}, { id: "t-1" }])
		await keepOwner(s.identity, SUBMIT, { caller: ann, headers: new Headers(), answer });
	await keepOwner(s.identity, route({ status: 200 }), {
		caller: ann,
		headers: new Headers(),
		answer: { task_id: "t-1" },
	});
	expect(s.identity.taskOwners.ownership("t-1", "ann")).toBe("foreign");
});
