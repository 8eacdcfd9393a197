import { expect, test } from "bun:test";
import { orderCandidates } from "../../src/core/service/balancer.ts";

const three = [
	{ name: "a", outstanding: 2 },
	{ name: "b", outstanding: 0 },
	{ name: "c", outstanding: 1 },
];
const names = (list: { name: string }[]): string => list.map(({ name }) => name).join("");

test("least_outstanding tries the least busy first", () => {
	for (const turn of [0, 1, 2]) expect(names(orderCandidates(three, "least_outstanding", turn))).toBe("bca");
});

test("equals take turns under least_outstanding", () => {
	const idle = three.map((each) => ({ ...each, outstanding: 0 }));
	expect([0, 1, 2, 3].map((turn) => orderCandidates(idle, "least_outstanding", turn)[0]?.name)).toEqual([
		"a",
		"b",
		"c",
		"a",
	]);
});

test("round_robin goes around whatever the load", () => {
	expect([0, 1, 2, 3].map((turn) => names(orderCandidates(three, "round_robin", turn)))).toEqual([
		"abc",
		"bca",
		"cab",
		"abc",
	]);
});

test("nobody to ask is an empty order", () => {
	expect(orderCandidates([], "least_outstanding", 7)).toEqual([]);
});
