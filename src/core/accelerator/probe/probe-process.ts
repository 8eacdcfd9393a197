/**
 * The agent's side of the probe: asks it for a look at the GPUs, and never waits without a limit. One that does not
 * answer is ended, and another one started for the next look.
 */
import type { Clock } from "../../../platform/clock.ts";
import { createLineReader } from "../../../platform/line-reader.ts";
import type { Log } from "../../../platform/log.ts";
import { minimalEnvironment } from "../../../platform/process.ts";
import type { MachineReading, ProbePlaces } from "./reading.ts";

export interface Probe extends AsyncDisposable {
	/** Undefined: no answer within the limit, or none that is one. */
	look(): Promise<MachineReading | undefined>;
}

export interface ProbeOptions {
	/** Up to and including `__probe`. */
	command: readonly string[];
	/** Of the agent. */
	environment: Readonly<Record<string, string | undefined>>;
	places: ProbePlaces;
	waitMs: number;
}

const END_MS = 1000;
const MAX_ANSWER_CHARS = 1024 * 1024;

interface Child {
	process: Bun.Subprocess<"pipe", "pipe", "ignore">;
	answers: ((reading: MachineReading | undefined) => void)[];
}

export function createProbe(
	{ clock, log }: { clock: Clock; log: Log },
	{ command, environment, places, waitMs }: ProbeOptions,
): Probe {
	let current: Child | undefined;
	let closed = false;
	const start = (): Child => {
		const process = Bun.spawn({
			cmd: [...command, JSON.stringify(places)],
			cwd: "/",
			env: minimalEnvironment(environment),
			stdio: ["pipe", "pipe", "ignore"],
			detached: true,
		});
		process.unref();
		const child: Child = { process, answers: [] };
		const hear = async (): Promise<void> => {
			const read = createLineReader((line) => child.answers.shift()?.(JSON.parse(line) as MachineReading), {
				maxChars: MAX_ANSWER_CHARS,
			});
			try {
				for await (const piece of process.stdout) read(piece);
			} catch (error) {
				log.warn("probe.not_understood", { error });
				process.kill("SIGKILL");
			}
			if (current === child) current = undefined;
			for (const answer of child.answers.splice(0)) answer(undefined);
		};
		void hear();
		return child;
	};
	const drop = (child: Child): void => {
		if (current === child) current = undefined;
		child.process.kill("SIGKILL");
	};
	return {
		async look() {
			if (closed) return undefined;
			try {
				current ??= start();
				const child = current;
				const { promise, resolve } = Promise.withResolvers<MachineReading | undefined>();
				child.answers.push(resolve);
				await child.process.stdin.write("look\n");
				await child.process.stdin.flush();
				const over = new AbortController();
				const tooLate = clock.sleep(waitMs, over.signal).then(() => undefined);
				const reading = await Promise.race([promise, tooLate]);
				over.abort();
				if (reading === undefined && !closed) {
					log.warn("probe.no_answer", { pid: child.process.pid, waited_ms: waitMs });
					drop(child);
				}
				return reading;
			} catch (error) {
				log.warn("probe.failed", { error });
				current = undefined;
				return undefined;
			}
		},
		async [Symbol.asyncDispose]() {
			closed = true;
			const child = current;
			current = undefined;
			if (child === undefined) return;
			try {
				await child.process.stdin.end();
			} catch {
				// It has ended already.
			}
			const ended = new AbortController();
			void child.process.exited.then(() => ended.abort());
			await clock.sleep(END_MS, ended.signal);
			// One in the middle of a hanging call of the kernel cannot be waited for.
			if (!ended.signal.aborted) child.process.kill("SIGKILL");
		},
	};
}
