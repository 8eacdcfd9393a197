/**
 * The stage of the demo: a home directory of its own with its own copy of the binary, commands run in it exactly as
 * they are printed, each step timed, and everything taken down at the end whatever happened.
 */
import { constants, copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { commandLineOf, processesOf } from "./processes.ts";

/** A difference from what was wanted; its message names wanted and got. */
export class Difference extends Error {}

export interface Ran {
	stdout: string;
	seconds: number;
}

interface Line {
	title: string;
	seconds: number;
	bytes: number | undefined;
}

const COMMAND_LIMIT_MS = 120_000;
const STOP_LIMIT_MS = 12_000;
const LOG_LINES = 15;

export class Stage implements AsyncDisposable {
	readonly home = mkdtempSync(join(tmpdir(), "gswarm-demo-"));
	/** Given to every command besides HOME and PATH. */
	readonly environment: Record<string, string> = {};
	#lines: Line[] = [];
	#title = "preparation";
	#running: Bun.Subprocess | undefined;

	constructor(binary: string) {
		const bin = join(this.home, "bin");
		mkdirSync(bin);
		copyFileSync(binary, join(bin, "gswarm"), constants.COPYFILE_FICLONE);
	}

	/** The step that is under way, or was the last. */
	get title(): string {
		return this.#title;
	}

	/**
	 * One step of the story. `act` answers how many bytes were moved, if it moved any.
	 * @throws Difference when a command fails or an answer is not the wanted one
	 */
	async step(title: string, act: () => Promise<number | undefined | void>): Promise<void> {
		this.#title = title;
		console.log(`\n${String(this.#lines.length + 1).padStart(2)}. ${title}`);
		const started = performance.now();
		const bytes = (await act()) ?? undefined;
		const line = { title, seconds: (performance.now() - started) / 1000, bytes };
		this.#lines.push(line);
		console.log(`    → ${measures(line).filter(Boolean).join(", ")}`);
	}

	/** Runs what a user would type; prints it and what it says. */
	async type(command: string): Promise<Ran> {
		console.log(`    $ ${command}`);
		const started = performance.now();
		const child = Bun.spawn(["sh", "-c", command], {
			cwd: this.home,
			env: {
				HOME: this.home,
				PATH: `${join(this.home, "bin")}:/usr/bin:/bin`,
				NO_PROXY: "127.0.0.1",
				...this.environment,
			},
			stdin: "ignore",
			stdout: "pipe",
			stderr: "pipe",
			timeout: COMMAND_LIMIT_MS,
		});
		this.#running = child;
		const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
		const code = await child.exited;
		const said = `${stderr}${stdout}`.trimEnd();
		if (said) console.log(said.replace(/^/gm, "      "));
		const ended = child.signalCode ?? `exit code ${code}`;
		this.expect(`the end of \`${command}\``, "exit code 0", ended);
		return { stdout, seconds: (performance.now() - started) / 1000 };
	}

	/** @throws Difference when `got` is not `wanted` */
	expect(what: string, wanted: unknown, got: unknown): void {
		if (Bun.deepEquals(wanted, got)) return;
		throw new Difference(
			`${what}\n    wanted: ${JSON.stringify(wanted)}\n    got:    ${JSON.stringify(got)}`,
		);
	}

	/** @throws Difference when an agent or an engine outlived the stop */
	expectNobodyLeft(): void {
		this.expect("processes that are still there", [], processesOf(this.home).map(commandLineOf));
	}

	/** Steps with seconds, bytes and rates. */
	printMeasures(): void {
		const width = Math.max(...this.#lines.map(({ title }) => title.length));
		console.log("");
		for (const line of this.#lines) {
			const [seconds = "", bytes = "", rate = ""] = measures(line);
			console.log(
				`  ${line.title.padEnd(width)}  ${seconds.padStart(8)}  ${bytes.padStart(9)}  ${rate.padStart(12)}`,
			);
		}
		const total = this.#lines.reduce((sum, { seconds }) => sum + seconds, 0);
		console.log(`  ${"all steps".padEnd(width)}  ${`${total.toFixed(2)} s`.padStart(8)}`);
	}

	/** The ends of the log files, for somebody who has to find out what went wrong. */
	printLogs(): void {
		const logs = readdirSync(this.home, { recursive: true, withFileTypes: true })
			.filter((entry) => entry.isFile() && entry.name.endsWith(".log"))
			.map((entry) => join(entry.parentPath, entry.name));
		for (const file of logs) {
			const last = readFileSync(file, "utf8").trimEnd().split("\n").slice(-LOG_LINES);
			console.error(`\n${file.slice(this.home.length + 1)} ends with:\n  ${last.join("\n  ")}`);
		}
	}

	/** Ends every process of this home, politely and then not, and removes the home. */
	async [Symbol.asyncDispose](): Promise<void> {
		this.#running?.kill();
		const deadline = performance.now() + STOP_LIMIT_MS;
		let signal: NodeJS.Signals = "SIGTERM";
		for (let alive = processesOf(this.home); alive.length > 0; alive = processesOf(this.home)) {
			for (const pid of alive) end(pid, signal);
			await Bun.sleep(100);
			if (performance.now() > deadline) signal = "SIGKILL";
		}
		rmSync(this.home, { recursive: true, force: true });
	}
}

export function inUnits(bytes: number): string {
	return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

function measures({ seconds, bytes }: Line): string[] {
	const time = `${seconds.toFixed(2)} s`;
	return bytes === undefined ? [time] : [time, inUnits(bytes), `${inUnits(bytes / seconds)}/s`];
}

function end(pid: number, signal: NodeJS.Signals): void {
	try {
		process.kill(pid, signal);
	} catch {
		// It has ended between the look and the signal.
	}
}
