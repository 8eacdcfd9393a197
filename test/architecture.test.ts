/** Guards the shape of the house: who may import whom, and what is nowhere. Each rule is also tried on a planted violation. */
import { expect, test } from "bun:test";
import { contract } from "../src/api/contract.ts";
import type { Listener, Role, Route } from "../src/api/route.ts";
import { literalCalls } from "./support/architecture/calls.ts";
import { violations } from "./support/architecture/rules.ts";

const ROOT = new URL("..", import.meta.url).pathname;

/** A room as it should be; planted violations are added to it. */
const HOUSE: Record<string, string> = {
	"src/schema/names.ts": `import { z } from "zod"; export const name = z.string();`,
	"src/platform/clock.ts": `import type { name } from "../schema/names.ts"; export const now = new Date();`,
	"src/core/storage/storage.ts": `/**\n * Keeps.\n * States: none.\n * Does not fetch.\n */\nexport { place } from "./place.ts";`,
	"src/core/storage/place.ts": `import sql from "./sql/0001_a.sql" with { type: "text" }; export const place = sql;`,
	"src/core/transfer/transfer.ts": `// Fetches.\n// States: some.\n// Does not keep.\nimport { place } from "../storage/storage.ts";`,
	"src/api/client.ts": `import { name } from "../schema/names.ts"; import { ofetch } from "ofetch";`,
	"src/agent/agent.ts": `import "./host/wire.ts"; import "./node/wire.ts"; import "hono";`,
	"src/agent/host/wire.ts": `import "../../core/storage/storage.ts"; import "../../api/client.ts";`,
	"src/agent/node/wire.ts": `import "../../platform/clock.ts";`,
	"src/cli/agent.ts": `await import("../agent/agent.ts"); import "citty";`,
	"src/cli/model.ts": `import "../api/client.ts"; import "../platform/clock.ts";`,
	"src/web/page.ts": `import type { name } from "../schema/names.ts";`,
	"bin/gswarm.ts": `await import("../src/cli/agent.ts");`,
	"test/storage/place.test.ts": `import "../../src/core/storage/place.ts";`,
	"test/support/until.ts": `await Bun.sleep(1);`,
};

function rulesBrokenBy(path: string, text: string): string[] {
	return violations(new Map(Object.entries({ ...HOUSE, [path]: text }))).map(({ rule }) => rule);
}

test("the repository keeps every rule of the architecture", async () => {
	const files = new Map<string, string>();
	for await (const path of new Bun.Glob("{src,bin,test,scripts,bench}/**/*.{ts,tsx}").scan(ROOT)) {
		files.set(path, await Bun.file(`${ROOT}${path}`).text());
	}
	expect(files.size).toBeGreaterThan(100);
	const found = violations(files).map(
		({ path, line, rule, message }) => `${path}:${line} ${rule}: ${message}`,
	);
	expect(found).toEqual([]);
});

test("a house that keeps the rules has no violations", () => {
	expect(violations(new Map(Object.entries(HOUSE)))).toEqual([]);
});

test.each([
	["schema imports zod alone", "src/schema/a.ts", `import "node:fs";`, "package"],
	["schema imports no layer above", "src/schema/a.ts", `import "../platform/clock.ts";`, "layer"],
	[
		"platform imports no room",
		"src/platform/a.ts",
		`import type { a } from "../core/storage/storage.ts";`,
		"layer",
	],
	["api imports the schema alone", "src/api/a.ts", `import "../platform/clock.ts";`, "layer"],
	["a room knows no HTTP server", "src/core/storage/a.ts", `import { Hono } from "hono/tiny";`, "package"],
	[
		"a room imports no layer above",
		"src/core/storage/a.ts",
		`export type A = import("../../api/client.ts").A;`,
		"layer",
	],
	[
		"a room uses no other room unlisted",
		"src/core/storage/a.ts",
		`import "../transfer/transfer.ts";`,
		"room",
	],
	[
		"a room is entered by its door",
		"src/core/transfer/a.ts",
		`import type { p } from "../storage/place.ts";`,
		"door",
	],
	["the agent enters by doors too", "src/agent/a.ts", `await import("../core/storage/place.ts");`, "door"],
	[
		"a text import counts",
		"src/agent/a.ts",
		`import q from "../core/storage/a.ts" with { type: "text" };`,
		"door",
	],
	["host does not import node", "src/agent/host/a.ts", `import "../node/wire.ts";`, "layer"],
	["node does not import host", "src/agent/node/a.ts", `import type { a } from "../host/wire.ts";`, "layer"],
	["a command knows no agent", "src/cli/model.ts", `const a = await import("../agent/agent.ts");`, "layer"],
	[
		"a command knows no room",
		"src/cli/model.ts",
		`new Worker(new URL("../core/storage/storage.ts", import.meta.url));`,
		"layer",
	],
	["a command knows no database", "src/cli/model.ts", `import { Database } from "bun:sqlite";`, "package"],
	["the program starts the cli", "bin/gswarm.ts", `import "../src/agent/agent.ts";`, "layer"],
	["the product imports no test", "src/cli/model.ts", `import "../../test/support/until.ts";`, "layer"],
	["a computed import cannot be judged", "src/cli/model.ts", "await import(`./${a}.ts`);", "layer"],
	["only doors hand names on", "src/core/storage/a.ts", `export { place } from "./place.ts";`, "re-export"],
	[
		"a door names what it hands on",
		"src/core/storage/storage.ts",
		`/** a\n * b\n * c */ export * from "./place.ts";`,
		"re-export",
	],
	["a room has a door", "src/core/pool/chunk.ts", `export const chunk = 1;`, "door"],
	["a door opens with its purpose", "src/core/storage/storage.ts", `/** Keeps. */`, "door"],
	[
		"no circle of files",
		"src/core/storage/place.ts",
		`import type { a } from "./storage.ts"; export const place = 1;`,
		"cycle",
	],
	[
		"a lazy circle is one too",
		"src/core/storage/place.ts",
		`export const place = () => import("./storage.ts");`,
		"cycle",
	],
	["no file is a barrel", "src/cli/index.ts", `export const a = 1;`, "name"],
	["no folder is a bag", "src/cli/utils/text.ts", `export const a = 1;`, "name"],
	["a test does not sleep", "test/a.test.ts", `await Bun.sleep(5);`, "sleep"],
	["a test sets no timer", "test/a.test.ts", `await new Promise((r) => setTimeout(r, 5));`, "sleep"],
	[
		"a test imports no timer",
		"test/a.test.ts",
		`import { setTimeout as s } from "node:timers/promises";`,
		"sleep",
	],
	["a test mocks no module", "test/a.test.ts", `mock.module("./a.ts", () => ({}));`, "mock"],
	["a date without a time reads the clock", "src/cli/model.ts", `const a = new Date();`, "time"],
	["an exception has a reason", "src/cli/model.ts", `// oxlint-disable-next-line no-console\nf();`, "reason"],
])("%s", (_title, path, text, rule) => {
	expect(rulesBrokenBy(path, text)).toContain(rule);
});

test("an exception with its reason and a date of a given time are fine", () => {
	const text = `// oxlint-disable-next-line no-console -- the one line of output\nconsole.log(new Date(5));`;
	expect(rulesBrokenBy("src/cli/model.ts", text)).toEqual([]);
});

test("a file that does not parse is an error, not a file without imports", () => {
	expect(() => rulesBrokenBy("src/cli/model.ts", "import {")).toThrow("does not parse");
});

test("every route has a role, a listener and a place of its own", () => {
	const roles: Record<Role, true> = {
		public: true,
		any: true,
		join: true,
		grant: true,
		viewer: true,
		inference: true,
		user: true,
		operator: true,
		admin: true,
		node: true,
		host: true,
	};
	const places = new Map<string, string>();
	const listeners: readonly Listener[] = ["host", "node", "peer"];
	for (const [id, route] of Object.entries<Route>(contract)) {
		expect(Object.keys(roles), id).toContain(route.role);
		expect(route.on.length, id).toBeGreaterThan(0);
		for (const listener of route.on) {
			expect(listeners, id).toContain(listener);
			const place = `${listener} ${route.method} ${route.path.replaceAll(/\{\w+\}/g, "{}")}`;
			expect(places.get(place), `${place} is both ${id} and another route`).toBeUndefined();
			places.set(place, id);
		}
	}
});

test("only liveness and the CA are public, and what agents say to each other is no person's role", () => {
	const routes = Object.entries<Route>(contract);
	expect(routes.filter(([, { role }]) => role === "public").map(([id]) => id)).toEqual([
		"health",
		"authority",
	]);
	for (const [id, { role, internal = false }] of routes) {
		expect(internal, id).toBe(["join", "grant", "node", "host"].includes(role));
	}
});

test("the machine that checks everything installs what the suites require, and nothing else", async () => {
	const script = await Bun.file(`${ROOT}.ci/run`).text();
	const [, list = ""] = /^PACKAGES=\(\n([^)]*)\)/m.exec(script) ?? [];
	const installed = list.split("\n").flatMap((line) => line.trim() || []);
	const required = new Set<string>();
	for await (const path of new Bun.Glob("test/**/*.test.ts").scan(ROOT)) {
		if (path === "test/support/requires.test.ts") continue;
		for (const [name, , debianPackage = name] of literalCalls(
			await Bun.file(`${ROOT}${path}`).text(),
			"requires",
		)) {
			required.add(debianPackage ?? "");
		}
	}
	expect(installed).toEqual([...required].toSorted());
});
