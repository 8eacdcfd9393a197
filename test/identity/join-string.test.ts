import { expect, test } from "bun:test";
import { formatJoinString, parseJoinString } from "../../src/core/identity/join-string.ts";
import { asGswarmError } from "../../src/schema/errors.ts";

const SECRET = "aB3".repeat(10) + "zZ";
const PIN = "0a".repeat(32);

test("a join string without a pin, and one with the CA's, come back as they were made", () => {
	for (const caSha256 of [undefined, PIN]) {
		const join = { caSha256, tokenId: "k3v9x2ma", secret: SECRET };
		expect(parseJoinString(formatJoinString(join))).toEqual(join);
	}
	expect(formatJoinString({ caSha256: undefined, tokenId: "k3v9x2ma", secret: SECRET })).toBe(
		`GSW10::k3v9x2ma.${SECRET}`,
	);
});

test("white space around it, as a pipe or an editor leaves it, does not matter", () => {
	expect(parseJoinString(`  GSW10::k3v9x2ma.${SECRET}\r\n`).secret).toBe(SECRET);
});

test.each([
	["nothing", ""],
	["a token", `gsw_join_k3v9x2ma_${SECRET}_000000`],
	["another version", `GSW11::k3v9x2ma.${SECRET}`],
	["a pin that is too short", `GSW10${PIN.slice(1)}::k3v9x2ma.${SECRET}`],
	["a pin in capitals", `GSW10${PIN.toUpperCase()}::k3v9x2ma.${SECRET}`],
	["no id", `GSW10::.${SECRET}`],
	["an id of 9", `GSW10::k3v9x2maa.${SECRET}`],
	["a secret of 31", `GSW10::k3v9x2ma.${SECRET.slice(1)}`],
	["a secret of 33", `GSW10::k3v9x2ma.${SECRET}0`],
	["two lines", `GSW10::k3v9x2ma.${SECRET}\nGSW10::k3v9x2ma.${SECRET}`],
	["a NUL", `GSW10::k3v9x2ma.${SECRET.slice(1)}\0`],
])("%s is refused without being repeated", (_what, text) => {
	const error = asGswarmError(catchError(() => parseJoinString(text)));
	expect(error.status).toBe(400);
	expect(error.reason).toBe("bad_join_string");
	const told = `${error.message} ${error.hint} ${JSON.stringify(error.details)}`;
	expect(told).not.toContain(SECRET.slice(1));
	expect(told).not.toContain("k3v9x2ma");
});

function catchError(run: () => unknown): unknown {
	try {
		run();
	} catch (error) {
		return error;
	}
	throw new Error("it was accepted");
}
