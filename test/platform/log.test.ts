import { expect, test } from "bun:test";
import { createLog } from "../../src/platform/log.ts";
import { FakeClock } from "../support/fake-clock.ts";

test("values under a secret's name never reach a line, at whatever depth", () => {
	const lines: string[] = [];
	const log = createLog(
		{ clock: new FakeClock(), write: (line) => lines.push(line) },
		{ level: "debug", fields: { node_token: "canary" } },
	);
	log.debug("one", { Authorization: "Bearer canary", request: { headers: [{ cookie: "canary" }] } });
	log.with({ hub_secret: "canary" }).error("two", { "x-api_key": "canary", password: "canary" });
	expect(lines.join("")).not.toContain("canary");
	expect(lines.map((line) => (JSON.parse(line) as { event: string }).event)).toEqual(["one", "two"]);
});
