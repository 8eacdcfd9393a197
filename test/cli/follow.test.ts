import { describe, expect, test } from "bun:test";
import type { TaskDocument } from "../../src/schema/task.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { fakeAgent } from "./support/fake-agent.ts";
import { type WorldOptions, run } from "./support/fake-world.ts";
import { DONE, SUBMITTED, sampleTask } from "./support/samples.ts";

/** A task that gets on with every reading and is done after `readings`. */
function growing(readings: number, change: Partial<TaskDocument> = {}) {
	let read = 0;
	return () => {
		read += 1;
		if (read > readings) return { ...DONE, ...change };
		const bytes_done = Math.round((64_000_000 * read) / (readings + 1));
		return sampleTask({ progress: { bytes_done, bytes_total: 64_000_000, rate_bytes_per_s: 1e6, eta_s: 3 } });
	};
}

const FOREVER = { downloadModel: SUBMITTED, getTask: sampleTask() };

async function pull(options: WorldOptions, ...flags: string[]) {
	return await run(["pull", "acme/tiny", "--to", "node1:disk", ...flags], options);
}

describe("waiting for a task", () => {
	test("the end is told with bytes, seconds and rate, and what comes next", async () => {
		const agent = fakeAgent({ downloadModel: SUBMITTED, getTask: growing(3) });
		const { code, stdout, stderr } = await pull({ agent });
		expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
		expect(stderr).toContain("Downloaded acme/tiny to node1:disk (64 MB in 2.0 s, 32 MB/s).");
		expect(stderr).toContain("next: gswarm model serve acme/tiny");
	});

	test("--json prints the final task and no word of it on stdout", async () => {
		const agent = fakeAgent({ downloadModel: SUBMITTED, getTask: growing(3) });
		const { stdout } = await pull({ agent }, "--json");
		expect(JSON.parse(stdout)).toEqual(DONE);
	});

	test("--quiet prints the id and says nothing", async () => {
		const agent = fakeAgent({ downloadModel: SUBMITTED, getTask: growing(100) });
		const { stdout, stderr } = await pull({ agent }, "-q");
		expect({ stdout, stderr }).toEqual({ stdout: `${DONE.task_id}\n`, stderr: "" });
	});

	test("readings come slower, from 100 ms to 500 ms", async () => {
		const agent = fakeAgent({ downloadModel: SUBMITTED, getTask: growing(25) });
		const { elapsedMs } = await pull({ agent });
		expect(elapsedMs).toBeGreaterThan(9_000);
		expect(elapsedMs).toBeLessThan(12_000);
		expect(agent.seen.filter((call) => call.route === "getTask").length).toBe(26);
	});

	test("without a terminal there is a line for each phase and then one every 10 s, and no escape", async () => {
		const agent = fakeAgent({ downloadModel: SUBMITTED, getTask: growing(100) });
		const { stderr, elapsedMs } = await pull({ agent });
		const lines = stderr.split("\n").filter((line) => line.includes("downloading"));
		expect(lines.length).toBe(1 + Math.floor(elapsedMs / 10_000));
		expect(lines[0]).toBe("acme/tiny → node1:disk: downloading: 0%, 634 kB of 64 MB, 1 MB/s, ETA 3.0 s");
		expect(stderr).not.toContain("\u001b");
		expect(stderr).not.toContain("█");
	});

	test("a wait in the queue is told once it lasts, with its reason", async () => {
		const waiting = sampleTask({ status: "pending", phase: "queued", waiting_for: "space on node1:disk" });
		let reads = 0;
		const agent = fakeAgent({ downloadModel: SUBMITTED, getTask: () => (++reads < 10 ? waiting : DONE) });
		const { stderr } = await pull({ agent });
		expect(stderr.match(/waiting for space on node1:disk/g)?.length).toBe(1);
		const short = fakeAgent({ downloadModel: SUBMITTED, getTask: growing(0) });
		expect((await pull({ agent: short })).stderr).not.toContain("queued");
	});

	test("on a terminal one line is redrawn, fits, and is gone at the end", async () => {
		for (const columns of [40, 60, 80, 200]) {
			const agent = fakeAgent({ downloadModel: SUBMITTED, getTask: growing(10) });
			const { stderr } = await pull({ agent, columns });
			const frames = stderr.split("\r\u001b[1A");
			expect(frames.length).toBeGreaterThan(9);
			for (const frame of frames.slice(0, 9)) {
				expect(Bun.stringWidth(frame.split("\n")[0] ?? "")).toBeLessThan(columns);
			}
			expect(stderr).toContain(columns < 60 ? "9%  5.8/64 MB" : "downloading acme/tiny");
			if (columns >= 80) expect(stderr).toMatch(/█+░+ +\d+% +[\d.]+\/64 MB +1 MB\/s +ETA 3\.0 s/);
			// The last redraw leaves nothing but the message.
			expect(frames.at(-1)).toStartWith("\u001b[J✓ Downloaded");
		}
	});

	test("without colour there is no colour, on a terminal too", async () => {
		const options = { columns: 100, agent: fakeAgent({ downloadModel: SUBMITTED, getTask: growing(3) }) };
		const hasColour = (text: string): boolean => text.includes("\u001b[32m") || text.includes("\u001b[2m");
		expect(hasColour((await pull(options)).stderr)).toBe(false);
		const coloured = { ...options, environment: { noColor: false } };
		expect(hasColour((await pull(coloured)).stderr)).toBe(true);
		expect(hasColour((await pull(coloured, "--no-color")).stderr)).toBe(false);
	});

	test("--timeout ends the waiting with 124 and says how to come back; the task goes on", async () => {
		const agent = fakeAgent(FOREVER);
		const { code, stdout, stderr, elapsedMs } = await pull({ agent }, "--timeout", "5s");
		expect({ code, stdout, elapsedMs }).toEqual({ code: 124, stdout: "", elapsedMs: 5000 });
		expect(stderr).toContain("the task goes on");
		expect(stderr).toContain("gswarm queue show download-tiny-k3v9x2ma --wait");
		expect(agent.seen.some((call) => call.route === "cancelTask")).toBe(false);
	});

	test("hints name the data directory that was named", async () => {
		const { stderr } = await pull({ agent: fakeAgent(FOREVER) }, "--timeout", "1s", "--data-dir", "/tmp/a b");
		expect(stderr).toContain("queue show download-tiny-k3v9x2ma --wait --data-dir '/tmp/a b'");
	});

	test("Ctrl-C detaches with 130 and says how to come back", async () => {
		for (const columns of [undefined, 80]) {
			const agent = fakeAgent(FOREVER);
			let pressed = 0;
			const { code, stderr } = await pull({
				agent,
				...(columns === undefined ? {} : { columns }),
				onSleep: (elapsedMs, { interrupt }) => {
					if (elapsedMs > 1000 && pressed++ === 0) interrupt();
				},
			});
			expect(code).toBe(130);
			expect(stderr).toContain("the task goes on");
			expect(stderr).toContain("queue show download-tiny-k3v9x2ma --wait");
			expect(agent.seen.some((call) => call.route === "cancelTask")).toBe(false);
		}
	});

	test("a second Ctrl-C cancels the task", async () => {
		const agent = fakeAgent({ ...FOREVER, cancelTask: sampleTask({ status: "cancelled" }) });
		let pressed = 0;
		const { code, stderr } = await pull({
			agent,
			columns: 80,
			onSleep: (elapsedMs, { interrupt }) => {
				if (elapsedMs > 1000 && pressed++ < 2) interrupt();
			},
		});
		expect(code).toBe(130);
		expect(stderr).toContain("Cancelled download-tiny-k3v9x2ma.");
		expect(agent.only("cancelTask").params).toEqual({ task_id: "download-tiny-k3v9x2ma" });
	});

	test("an agent that restarts meanwhile is waited for", async () => {
		let reads = 0;
		const agent = fakeAgent({
			downloadModel: SUBMITTED,
			getTask: () => {
				reads += 1;
				if (reads > 2 && reads < 12) throw new GswarmError("NETWORK_ERROR", "Cannot reach it.");
				return reads < 15 ? sampleTask() : DONE;
			},
		});
		const { code, stderr } = await pull({ agent });
		expect(code).toBe(0);
		expect(stderr.match(/does not answer; asking again/g)?.length).toBe(1);
	});

	test("an agent that stays away is exit 6 after a minute, with the way back", async () => {
		const agent = fakeAgent({
			downloadModel: SUBMITTED,
			getTask: () => {
				throw new GswarmError("NETWORK_ERROR", "Cannot reach it.");
			},
		});
		const { code, stderr, elapsedMs } = await pull({ agent });
		expect(code).toBe(6);
		expect(elapsedMs).toBeGreaterThan(60_000);
		expect(elapsedMs).toBeLessThan(70_000);
		expect(stderr).toContain("queue show download-tiny-k3v9x2ma --wait");
	});

	test("--timeout holds while the agent is away", async () => {
		const agent = fakeAgent({
			downloadModel: SUBMITTED,
			getTask: () => {
				throw new GswarmError("NETWORK_ERROR", "Cannot reach it.");
			},
		});
		const { code, elapsedMs } = await pull({ agent }, "--timeout", "3s");
		expect({ code, elapsedMs }).toEqual({ code: 124, elapsedMs: 3000 });
	});

	test("queue show --wait comes back to a task and exits as it does", async () => {
		const agent = fakeAgent({ getTask: growing(4) });
		const { code, stderr } = await run(["queue", "show", "download-tiny-k3v9x2ma", "--wait"], { agent });
		expect(code).toBe(0);
		expect(stderr).toContain("download-tiny-k3v9x2ma is done (64 MB in 2.0 s");
	});
});
