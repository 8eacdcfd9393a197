import { describe, expect, test } from "bun:test";
import { openSecrets, type SecretFile } from "../../src/core/identity/secrets.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { MAX_SECRETS } from "../../src/schema/secret.ts";
import { FakeClock } from "../support/fake-clock.ts";

const HUB = "https://huggingface.co";
const VALUE = "hf_canary_4711";

function open(before?: string) {
	const clock = new FakeClock();
	let text = before;
	let broken = false;
	const file: SecretFile = {
		read: () => text,
		write: async (next) => {
			await Promise.resolve();
			if (broken) throw new Error("the disk is full");
			text = next;
		},
	};
	const reopen = () => openSecrets({ file, clock }, { defaultOrigins: { hf: HUB } });
	return { secrets: reopen(), reopen, clock, text: () => text, breakDisk: () => void (broken = true) };
}

const input = (name: string, origins?: string[], value = VALUE) => ({ name, value, origins, setBy: "ann" });
const reasonOf = async (work: Promise<unknown>): Promise<string | undefined> => {
	try {
		await work;
		return "nothing was refused";
	} catch (error) {
		const { message, hint, details } = asGswarmError(error);
		expect(JSON.stringify([message, hint, details, String((error as Error).cause)])).not.toContain(VALUE);
		return asGswarmError(error).reason;
	}
};

test("a secret is given out for the origins it is bound to, and for no other", async () => {
	const { secrets } = open();
	await secrets.set(input("lab", ["https://a.example:8443", "http://127.0.0.1:9000/"]));
	expect(secrets.valueFor("https://a.example:8443")).toBe(VALUE);
	expect(secrets.valueFor("http://127.0.0.1:9000")).toBe(VALUE);
	for (const other of [
		"https://a.example",
		"http://a.example:8443",
		"https://b.a.example:8443",
		"",
		"null",
	]) {
		expect(secrets.valueFor(other)).toBeUndefined();
	}
});

test("lists tell everything but the value", async () => {
	const { secrets, clock } = open();
	const shown = await secrets.set(input("hf"));
	expect(shown).toEqual({ name: "hf", origins: [HUB], set_at: clock.nowMs() / 1000, set_by: "ann" });
	expect(secrets.list()).toEqual([shown]);
	expect(JSON.stringify([secrets.list(), await secrets.remove("hf")])).not.toContain(VALUE);
});

test("hf is bound to the configured hub, another name needs an origin, a new value keeps the old ones", async () => {
	const { secrets } = open();
	expect((await secrets.set(input("hf"))).origins).toEqual([HUB]);
	expect(await reasonOf(secrets.set(input("lab")))).toBe("origins_missing");
	await secrets.set(input("lab", ["https://a.example"]));
	expect((await secrets.set(input("lab", undefined, "other"))).origins).toEqual(["https://a.example"]);
	expect(secrets.valueFor("https://a.example")).toBe("other");
	expect((await secrets.set(input("hf", ["https://mirror.example"]))).origins).toEqual([
		"https://mirror.example",
	]);
	expect(secrets.valueFor(HUB)).toBeUndefined();
});

test.each(["", "Hf", "1a", "a b", "../x", "a".repeat(33), "__proto__", "ä"])(
	"the name %j is refused",
	async (name) => {
		expect(await reasonOf(open().secrets.set(input(name, [HUB])))).toBe("bad_secret_name");
	},
);

test.each([
	["huggingface.co", "bad_origin"],
	["https://huggingface.co/models", "bad_origin"],
	["https://u:p@huggingface.co", "bad_origin"],
	["https://huggingface.co?x", "bad_origin"],
	["https://huggingface.co.", "bad_origin"],
	["https://*.huggingface.co", "bad_origin"],
	["file:///etc", "bad_origin"],
	["javascript:alert(1)", "bad_origin"],
	["", "bad_origin"],
	["http://mirror.example", "insecure_origin"],
	["http://192.168.1.4:8080", "insecure_origin"],
	["http://127.0.0.1.evil.example", "insecure_origin"],
])("the origin %j is refused: %s", async (origin, reason) => {
	expect(await reasonOf(open().secrets.set(input("lab", [origin])))).toBe(reason);
});

test("two secrets never share an origin", async () => {
	const { secrets } = open();
	await secrets.set(input("hf"));
	expect(await reasonOf(secrets.set(input("lab", ["https://a.example", `${HUB}/`])))).toBe("origin_taken");
	expect(secrets.list().length).toBe(1);
});

test("there is a limit to their number, and what is there can still be set anew", async () => {
	const { secrets } = open();
	for (let n = 0; n < MAX_SECRETS; n++) await secrets.set(input(`s${n}`, [`https://h${n}.example`]));
	expect(await reasonOf(secrets.set(input("more", ["https://more.example"])))).toBe("too_many_secrets");
	await secrets.set(input("s5", undefined, "new"));
	expect(secrets.valueFor("https://h5.example")).toBe("new");
});

test("a removed secret is gone, and removing it again is 404", async () => {
	const at = open();
	await at.secrets.set(input("hf"));
	await at.secrets.remove("hf");
	expect(at.secrets.valueFor(HUB)).toBeUndefined();
	expect(at.text()).not.toContain(VALUE);
	expect(await reasonOf(at.secrets.remove("hf"))).toBe("secret_not_found");
	expect(await reasonOf(at.secrets.remove("__proto__"))).toBe("secret_not_found");
});

describe("the file", () => {
	test("brings them back after a restart", async () => {
		const at = open();
		await at.secrets.set(input("hf"));
		expect(at.reopen().valueFor(HUB)).toBe(VALUE);
		expect(at.reopen().list()).toEqual(at.secrets.list());
	});

	test("that cannot be written leaves everything as it was", async () => {
		const at = open();
		await at.secrets.set(input("hf"));
		at.breakDisk();
		await expect(at.secrets.set(input("hf", undefined, "new"))).rejects.toThrow(/disk is full/);
		await expect(at.secrets.remove("hf")).rejects.toThrow(/disk is full/);
		expect(at.secrets.valueFor(HUB)).toBe(VALUE);
	});

	test("holds all of many changes at once", async () => {
		const at = open();
		await Promise.all(
			["a", "b", "c", "d"].map((name) => at.secrets.set(input(name, [`https://${name}.example`]))),
		);
		expect(
			at
				.reopen()
				.list()
				.map(({ name }) => name),
		).toEqual(["a", "b", "c", "d"]);
	});

	test.each([`{"version":1,"secrets":["${VALUE}"]}`, `{"${VALUE}`, "[]", "", `{"version":2,"secrets":[]}`])(
		"that is not ours stops the start without repeating what is in it: %j",
		async (text) => {
			expect(await reasonOf(Promise.try(() => open(text)))).toBe("bad_data_file");
		},
	);
});
