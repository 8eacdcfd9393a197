/**
 * Child processes that outlive the agent: own process group, minimal environment, output appended to a file (a pipe
 * would end the child with the agent), and an identity by which a later agent finds the same process again.
 *
 * A process is (pid, start time, boot): the number alone may belong to somebody else by the time it is used, so every
 * signal is preceded by a look at /proc. Where there is no /proc nothing is recognised, and nothing is ever signalled.
 */
import { closeSync, constants, openSync, readdirSync, readFileSync } from "node:fs";
import { GswarmError } from "../schema/errors.ts";
import type { Clock } from "./clock.ts";

export interface ProcessIdentity {
	pid: number;
	/** Clock ticks between boot and the start of the process: field 22 of /proc/PID/stat. */
	startTime: string;
	/** /proc/sys/kernel/random/boot_id; start times of different boots do not compare. */
	bootId: string;
}

/** How a process ended. Both null: it was not our child, so nobody told. */
export interface ExitStatus {
	code: number | null;
	signal: string | null;
}

export interface DetachedProcess extends Disposable {
	readonly identity: ProcessIdentity;
	/** Never rejects. Of a process that was found again it is known within ADOPTED_POLL_MS. */
	readonly exited: Promise<ExitStatus>;
	/** Stops watching; the process goes on. */
	[Symbol.dispose](): void;
}

export interface SpawnInput {
	/** Program and arguments; the program is an absolute path or found on the PATH of `environment`. */
	argv: readonly string[];
	/** The whole environment, see minimalEnvironment. */
	environment: Readonly<Record<string, string>>;
	/** stdout and stderr are appended here; made with mode 0600. */
	logPath: string;
	/** Default `/`: nothing in a directory of ours is read as configuration, and no mount is kept busy. */
	cwd?: string;
}

/** Starts a process that lives on when this one ends. @throws RESOURCE_UNAVAILABLE spawn_failed */
export function spawnDetached({ argv, environment, logPath, cwd = "/" }: SpawnInput): DetachedProcess {
	const { O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
	const log = openSync(logPath, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
	try {
		const child = Bun.spawn({
			cmd: [...argv],
			cwd,
			env: { ...environment },
			stdio: ["ignore", log, log],
			detached: true,
		});
		child.unref();
		// Unknown where there is no /proc, and of a child that has ended and was reaped already.
		const identity = {
			pid: child.pid,
			startTime: readStat(child.pid)?.startTime ?? "",
			bootId: readBootId() ?? "",
		};
		return {
			identity,
			exited: child.exited.then(() => ({
				code: child.exitCode,
				signal: child.signalCode === null ? null : String(child.signalCode),
			})),
			[Symbol.dispose]: () => {},
		};
	} catch (cause) {
		throw new GswarmError("RESOURCE_UNAVAILABLE", `The program ${argv[0]} could not be started.`, {
			reason: "spawn_failed",
			cause,
		});
	} finally {
		closeSync(log);
	}
}

/** Watches a process that another agent started. */
export function adoptProcess({ clock }: { clock: Clock }, identity: ProcessIdentity): DetachedProcess {
	const stop = new AbortController();
	const exited = Promise.withResolvers<ExitStatus>();
	void (async () => {
		while (!stop.signal.aborted) {
			if (!isSameProcess(identity)) {
				exited.resolve({ code: null, signal: null });
				return;
			}
			await clock.sleep(ADOPTED_POLL_MS, stop.signal);
		}
	})();
	return { identity, exited: exited.promise, [Symbol.dispose]: () => stop.abort() };
}

/** Who has this pid now; undefined when nobody has, or a zombie that only waits to be reaped. */
export function identify(pid: number): ProcessIdentity | undefined {
	const stat = readStat(pid);
	const bootId = readBootId();
	if (stat === undefined || bootId === undefined || stat.state === "Z" || stat.state === "X")
		return undefined;
	return { pid, startTime: stat.startTime, bootId };
}

/** Whether the process is still there, and not another one that got its number. */
export function isSameProcess(identity: ProcessIdentity): boolean {
	const now = identify(identity.pid);
	return now !== undefined && now.startTime === identity.startTime && now.bootId === identity.bootId;
}

/**
 * Leaders of process groups one of whose arguments is exactly `argument`; for a child whose pid was never recorded.
 * Its own children show the same arguments for a moment, but lead no group.
 */
export function findByArgument(argument: string): ProcessIdentity[] {
	return processIds().flatMap((pid) => {
		const argv = readText(`/proc/${pid}/cmdline`)?.split("\0") ?? [];
		if (!argv.includes(argument) || readStat(pid)?.group !== pid) return [];
		return identify(pid) ?? [];
	});
}

/**
 * Ends a process and its group: SIGTERM, up to `graceMs` for it to leave, SIGKILL, and waits until it is gone.
 * A pid that is somebody else's by now is left alone. Resolves at once when the process is gone.
 * @throws RESOURCE_UNAVAILABLE process_stuck when the kernel does not end it (uninterruptible sleep)
 */
export async function killGroup(
	{ clock }: { clock: Clock },
	identity: ProcessIdentity,
	{ graceMs }: { graceMs: number },
): Promise<void> {
	signalGroup(identity, "SIGTERM");
	if (await isGone(clock, identity, graceMs)) return;
	signalGroup(identity, "SIGKILL");
	if (await isGone(clock, identity, KILL_WAIT_MS)) return;
	throw new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`Process ${identity.pid} did not end ${KILL_WAIT_MS / 1000} s after SIGKILL.`,
		{ reason: "process_stuck", details: { pid: identity.pid }, retryable: true },
	);
}

/**
 * Ends what a child of ours has left in its group. Only for a child whose exit was just seen: the kernel gives out
 * no pid that is still the number of a group, so the group is the child's or empty.
 */
export function killLeftovers(identity: ProcessIdentity): void {
	if (identify(identity.pid) === undefined) send(identity.pid, "SIGKILL");
}

/**
 * The environment of a child: PATH, HOME, LANG and TMPDIR of `from`, and what is given. What could change how the
 * child's runtime works, or is a secret of ours, is refused: a caller that passes it has a bug.
 */
export function minimalEnvironment(
	from: Readonly<Record<string, string | undefined>>,
	given: Readonly<Record<string, string>> = {},
): Record<string, string> {
	const environment: Record<string, string> = {};
	for (const name of PASSED) {
		const value = from[name];
		if (value !== undefined) environment[name] = value;
	}
	for (const [name, value] of Object.entries(given)) {
		if (REFUSED.test(name)) throw new Error(`${name} never goes into a child's environment`);
		environment[name] = value;
	}
	return environment;
}

/** How often a process that is not our child is looked at. */
const ADOPTED_POLL_MS = 500;
const KILL_WAIT_MS = 10_000;
const GONE_POLL_MS = 20;
const PASSED = ["PATH", "HOME", "LANG", "TMPDIR"] as const;
const REFUSED = /^(BUN_|NODE_|LD_|DYLD_)|^(HF_TOKEN|HUGGING_FACE_HUB_TOKEN)|^GSWARM_.*TOKEN|SECRET|PASSWORD/i;

async function isGone(clock: Clock, identity: ProcessIdentity, limitMs: number): Promise<boolean> {
	const endMs = clock.monotonicMs() + limitMs;
	while (isSameProcess(identity)) {
		if (clock.monotonicMs() >= endMs) return false;
		await clock.sleep(GONE_POLL_MS);
	}
	return true;
}

function signalGroup(identity: ProcessIdentity, signal: "SIGTERM" | "SIGKILL"): void {
	if (isSameProcess(identity)) send(identity.pid, signal);
}

function send(group: number, signal: "SIGTERM" | "SIGKILL"): void {
	try {
		process.kill(-group, signal);
	} catch (error) {
		// It ended between the look and the signal.
		if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
	}
}

/** Fields of /proc/PID/stat; the name in parentheses may hold anything, so what counts begins behind the last one. */
function readStat(pid: number): { state: string; group: number; startTime: string } | undefined {
	const text = readText(`/proc/${pid}/stat`);
	if (text === undefined) return undefined;
	const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
	const [state, , group] = fields;
	const startTime = fields[START_TIME_FIELD];
	if (state === undefined || startTime === undefined) return undefined;
	return { state, group: Number(group), startTime };
}

/** Field 22 of the manual, counted from the state (field 3). */
const START_TIME_FIELD = 22 - 3;

function readBootId(): string | undefined {
	return readText("/proc/sys/kernel/random/boot_id")?.trim();
}

function processIds(): number[] {
	try {
		return readdirSync("/proc")
			.filter((name) => /^\d+$/.test(name))
			.map(Number);
	} catch {
		return [];
	}
}

function readText(path: string): string | undefined {
	try {
		return readFileSync(path, "utf8");
	} catch {
		return undefined;
	}
}
