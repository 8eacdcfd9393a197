import { expect, test } from "bun:test";
import { until } from "./until.ts";

test("waits for the first truthy answer, through errors, and returns it", async () => {
	let asked = 0;
	const answer = await until("the third question", () => {
		asked += 1;
		if (asked === 1) throw new Error("not yet");
		return asked === 3 && "answer";
	});
	expect(answer).toBe("answer");
});

test("says what it waited for and what it saw last when the deadline passes", async () => {
	const failure = await until("pigs fly", () => Promise.reject(new Error("no wings")), 5).catch(String);
	expect(failure).toContain("until pigs fly");
	expect(failure).toContain("no wings");
});
