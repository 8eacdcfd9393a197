import { expect, test } from "bun:test";
import { type InstanceEvent, nextState } from "../../src/core/service/instance-states.ts";
import { INSTANCE_STATES, type InstanceState } from "../../src/schema/service.ts";

const EVENTS: InstanceEvent[] = ["answered", "silent", "exited", "gave_up", "stop", "ended", "start"];

test("an instance goes through its life in this order and no other", () => {
	const walk = (...events: InstanceEvent[]): InstanceState | undefined =>
		events.reduce<InstanceState | undefined>((state, event) => state && nextState(state, event), "starting");
	expect(walk("answered", "silent", "exited", "answered", "stop", "ended")).toBe("stopped");
	expect(walk("exited", "exited", "gave_up")).toBe("failed");
	expect(walk("gave_up", "stop", "ended")).toBe("stopped");
	expect(walk("answered", "ended")).toBeUndefined();
});

test("an engine that was given up on is not brought back by a late answer", () => {
	expect(nextState("unhealthy", "answered")).toBeUndefined();
});

test("nothing but the end follows a stop, so that no request reaches an engine that is about to go", () => {
	expect(EVENTS.filter((event) => nextState("stopping", event) !== undefined)).toEqual(["ended"]);
});

test("every state but stopped can be stopped, once", () => {
	const stoppable = INSTANCE_STATES.filter((state) => nextState(state, "stop") === "stopping");
	expect(stoppable).toEqual(["starting", "ready", "unhealthy", "failed"]);
});
