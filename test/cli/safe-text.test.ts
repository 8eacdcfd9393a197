import { expect, test } from "bun:test";
import fc from "fast-check";
import { createOutput } from "../../src/cli/output.ts";
import { safeJson, safeLine, safeText } from "../../src/cli/render/safe-text.ts";
import { createStyle } from "../../src/cli/render/style.ts";
import { cut, renderTable } from "../../src/cli/render/table.ts";
import { fakeAgent } from "./support/fake-agent.ts";
import { run } from "./support/fake-world.ts";
import { DETAIL, LOCATION, MODEL, NODE, SERVICE, sampleTask } from "./support/samples.ts";

/** What a hostile server may put into any text. */
const EVIL =
	"a\u001b[31m\u001b[2J\u001b]0;title\u0007\u001bP1$r\u001b\\\u009b2J\u202eb\u0007\u0008\r\nc\u0000";
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const HARMFUL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;
const text = fc.string({
	unit: fc.oneof(
		fc.constantFrom("\u001b", "[", "]", "\u0007", "\u009b", "\u009d", "\\", "m", ";", "\n", "\r", "\u202e"),
		fc.string({ maxLength: 1, unit: "grapheme" }),
	),
});

test("no text keeps a control character but tab and newline", () => {
	expect(safeText(EVIL)).toBe("ab\nc");
	expect(safeLine(EVIL)).toBe("ab c");
	fc.assert(
		fc.property(text, (value) => {
			expect(safeText(value)).not.toMatch(HARMFUL);
			expect(safeLine(value)).not.toMatch(/[\n\t]/);
			expect(safeText(safeText(value))).toBe(safeText(value));
		}),
	);
});

test("ordinary text of any language passes as it is", () => {
	for (const value of ["acme/tiny", "größe 漢字 🚀", "a\tb\nc", "100 %"]) expect(safeText(value)).toBe(value);
});

test("JSON keeps the value and writes what a terminal would obey as escapes", () => {
	fc.assert(
		fc.property(fc.jsonValue(), text, (value, key) => {
			const body = { [`k${key}`]: [value, key] };
			expect(JSON.parse(safeJson(body))).toEqual(JSON.parse(JSON.stringify(body)));
			expect(safeJson(body).replaceAll("\n", "")).not.toMatch(HARMFUL);
		}),
	);
});

test("YAML keeps the value too", async () => {
	const body = { plain: "tiny", evil: EVIL, [`key${EVIL}`]: [1.5, null, true], "\u2028": "x" };
	let shown = "";
	const sink = { isTty: true, columns: () => 80, write: (part: string) => void (shown += part) };
	await createOutput(sink, { format: "yaml", quiet: false }).show(body, { names: () => [], human: () => "" });
	const { parse } = await import("yaml");
	expect(parse(shown)).toEqual(body);
	expect(shown.replaceAll("\n", "")).not.toMatch(HARMFUL);
});

test("no command hands a server's escapes to the terminal", async () => {
	const error = { code: "TASK_FAILED", message: EVIL, details: {}, hint: EVIL };
	const task = sampleTask({
		task_id: `t-${EVIL}`,
		node: EVIL,
		waiting_for: EVIL,
		request: { [EVIL]: EVIL },
		result: { [EVIL]: EVIL },
		error,
		resources: { devices: [EVIL], models: [EVIL], exclusive: false },
	});
	const agent = fakeAgent({
		listModels: {
			models: [
				{ ...MODEL, model_name: EVIL, model_type: EVIL, locations: [EVIL], services: { [EVIL]: EVIL } },
			],
			total: 1,
			page: 1,
			per_page: 200,
		},
		getModel: {
			...DETAIL,
			source_url: EVIL,
			metadata: { [EVIL.slice(0, 60)]: { x: EVIL }, y: EVIL },
			format: EVIL,
		},
		listLocations: {
			model_name: "x",
			locations: [{ ...LOCATION, device: EVIL, revision: EVIL, node_status: EVIL }],
		},
		listNodes: {
			nodes: [{ ...NODE, name: EVIL, address: EVIL, version: EVIL, tiers: { [EVIL]: NODE.tiers.disk } }],
			total: 1,
		},
		listServices: {
			services: [{ ...SERVICE, model_name: EVIL, url: EVIL, error: EVIL, framework: EVIL }],
			total: 1,
		},
		serviceStatus: { ...SERVICE, url: EVIL, error: EVIL },
		queueHistory: { tasks: [task], next_cursor: EVIL },
		getTask: { ...task, status: "failed" },
		cancelTask: task,
		createToken: { token: EVIL, expires_at: 1, uses: 1, command: EVIL },
	});
	const lines = [
		"model list",
		"model show x",
		"model locations x",
		"node list",
		"service list",
		"service status svc-x",
		"queue history",
		"queue show t-x",
		"queue show t-x --wait",
		"queue cancel t-x",
		"token create --join",
	];
	for (const line of lines) {
		for (const flags of [[], ["-o", "wide"], ["-o", "name"], ["-o", "yaml"], ["--json"]]) {
			const { stdout, stderr } = await run([...line.split(" "), ...flags], { agent });
			expect(`${line}: ${stdout}${stderr}`.replaceAll("\n", "")).not.toMatch(HARMFUL);
		}
	}
});

test("a table is aligned whatever the width of its characters, and one line a row", () => {
	const style = createStyle(true);
	const rows = [
		["tiny", style.good("ready"), "1"],
		["漢字モデル", "x", "1000"],
		["🚀", style.bad("failed"), ""],
	];
	const lines = renderTable([{ title: "A" }, { title: "B" }, { title: "C", align: "right" }], rows, {
		style,
	}).split("\n");
	expect(lines.length).toBe(4);
	const at = (line: string, what: string) => Bun.stringWidth(Bun.stripANSI(line).split(what)[0] ?? "");
	expect([at(lines[1] ?? "", "ready"), at(lines[2] ?? "", "x"), at(lines[3] ?? "", "failed")]).toEqual([
		12, 12, 12,
	]);
});

test("a narrow terminal cuts what may be cut, and never a name", () => {
	const style = createStyle(false);
	const columns = [{ title: "NAME" }, { title: "MESSAGE", shrink: true }];
	fc.assert(
		fc.property(
			fc.string({ unit: "grapheme-ascii", maxLength: 20 }),
			fc.string({ unit: "grapheme", maxLength: 200 }),
			(name, message) => {
				const row = [safeLine(name), safeLine(message)];
				const table = renderTable(columns, [row], { style, width: 60 });
				for (const line of table.split("\n")) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(60);
				expect(table).toContain((row[0] ?? "").trimEnd());
				expect(renderTable(columns, [row], { style })).toContain((row[1] ?? "").trimEnd());
			},
		),
	);
	expect(cut("abcdef", 4)).toBe("abc…");
	expect(cut("漢字漢字", 4)).toBe("漢…");
});
