/**
 * One engine process of one service, and the only writer of its row. A supervisor starts it, asks for its health,
 * and starts it again after a crash until that has happened too often; stop and detach make the supervisor let go
 * first, so that nobody else acts on the process at the same time.
 */
import { rmSync } from "node:fs";
import { logSize, trimLog } from "../../platform/log-file.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import {
	adoptProcess,
	type DetachedProcess,
	type ExitStatus,
	killGroup,
	killLeftovers,
	minimalEnvironment,
	type ProcessIdentity,
	spawnDetached,
} from "../../platform/process.ts";
import { asGswarmError, GswarmError } from "../../schema/errors.ts";
import type { InstanceState } from "../../schema/service.ts";
import type { Engine, HealthVerdict } from "./engine.ts";
import { checkHealth, type HealthPolicy, startPauseMs } from "./health.ts";
import { describeFailure, DETAIL_LINES, type Ending } from "./instance-failure.ts";
import { InstanceRecord } from "./instance-record.ts";
import { Load } from "./load.ts";
import { linesFrom, tailLines } from "./log-tail.ts";
import { decideRestart, recentCrashes, type RestartPolicy } from "./restart.ts";
import { requestTimeoutMs, type ServiceConfig } from "./service-config.ts";
import { parseConfig, type ServiceRow, type ServiceStore } from "./service-store.ts";
import type { Upstream } from "./upstream.ts";

export interface InstancePolicy {
	health: HealthPolicy;
	restart: RestartPolicy;
	/** Between SIGTERM and SIGKILL: longer than an engine takes for its own drain. */
	killGraceMs: number;
	/** The same for an engine that does not answer any more. */
	hungGraceMs: number;
	logLimitBytes: number;
}

/** A listener of the agent on the port that the service was asked on. */
export interface Front {
	close(): Promise<void> | void;
}

/** A front that another instance can take over while requests come. */
export interface ServiceFront extends Front {
	serve(instance: Instance): void;
}

export interface InstanceDependencies {
	clock: Clock;
	ids: Ids;
	log: Log;
	engine: Engine;
	store: ServiceStore;
	environment: Readonly<Record<string, string | undefined>>;
	/** Keeps the model's copy from being removed. @throws when there is no such copy */
	hold: () => Disposable;
	/** Hears of every request. */
	used: () => void;
	/** Opens the front of a service that has a port of its own. @throws CONFLICT port_in_use */
	openFront: () => Promise<ServiceFront>;
	onChange: () => void;
}

export class Instance {
	readonly load: Load;
	readonly logPath: string;
	readonly #deps: InstanceDependencies;
	readonly #policy: InstancePolicy;
	readonly #row: ServiceRow;
	readonly #record: InstanceRecord;
	readonly #config: ServiceConfig;
	readonly #halt = new AbortController();
	#supervisor: Promise<void> = Promise.resolve();
	#process: DetachedProcess | undefined;
	#hold: Disposable | undefined;
	#front: ServiceFront | undefined;
	#crashesMs: number[] = [];
	#launchedMs = 0;
	/** Where the log of this process begins, and how far it was searched for the engine's address. */
	#logStartByte = 0;
	#logSeenByte = 0;
	#failure: GswarmError | undefined;
	#stopping: Promise<void> | undefined;
	#hasBeenReady: boolean;
	#firstLook = Promise.withResolvers<void>();

	constructor(
		deps: InstanceDependencies,
		{ row, logPath, policy }: { row: ServiceRow; logPath: string; policy: InstancePolicy },
	) {
		this.#deps = { ...deps, log: deps.log.with({ service_id: row.service_id, model: row.model_name }) };
		this.#row = row;
		this.#config = parseConfig(row);
		this.#policy = policy;
		this.logPath = logPath;
		this.load = new Load(row.requests, deps.used);
		this.#record = new InstanceRecord({ ...this.#deps, load: this.load }, row);
		this.#hasBeenReady = row.ready_s !== null || row.restarts > 0;
		if (row.state === "failed") this.#failure = failedBefore(row);
	}

	get row(): Readonly<ServiceRow> {
		return this.#row;
	}

	get state(): InstanceState {
		return this.#row.state;
	}

	/** Starts the engine in the background; whenReady tells the outcome. */
	start(): void {
		this.#record.move("start");
		this.#supervisor = this.#supervise(undefined, { isRecovery: false });
	}

	/**
	 * Takes over after an agent's restart: a process that is still there, or none, in whose place one is started.
	 * Resolves after the first look at it.
	 */
	async recover(identity: ProcessIdentity | undefined): Promise<void> {
		const { clock, log } = this.#deps;
		const row = this.#row;
		this.#record.move("start");
		const runningMs = row.started_at === null ? 0 : Math.max(0, clock.nowMs() - row.started_at * 1000);
		this.#launchedMs = clock.monotonicMs() - runningMs;
		if (identity === undefined) row.restarts++;
		else this.#record.setProcess(identity);
		log.info("service.recovered", { adopted: identity !== undefined, pid: identity?.pid });
		const process = identity === undefined ? undefined : adoptProcess({ clock }, identity);
		this.#supervisor = this.#supervise(process, { isRecovery: true });
		await this.#firstLook.promise;
	}

	/** Takes a process without watching it, so that stop ends it. */
	takeOver(identity: ProcessIdentity | undefined): void {
		if (identity !== undefined) this.#process = adoptProcess(this.#deps, identity);
	}

	/** Whether it took requests at any time since the service was asked for. */
	get hasBeenReady(): boolean {
		return this.#hasBeenReady;
	}

	/** Resolves when the engine takes requests. @throws the failure, CONFLICT service_stopped, or the signal's reason */
	async whenReady(signal: AbortSignal): Promise<void> {
		for (;;) {
			signal.throwIfAborted();
			if (this.state === "ready") return;
			if (this.#failure !== undefined) throw this.#failure;
			if (this.#halt.signal.aborted) throw stoppedMeanwhile(this.#row.service_id);
			await this.#record.whenChanged(signal);
		}
	}

	/**
	 * From now on this instance answers to the name that `previous` answered to, and on its port; in between there is no
	 * moment without one. What `previous` has begun it finishes.
	 */
	async takeName(previous: Instance | undefined): Promise<void> {
		const name = this.#row.model_name;
		this.#row.served_name = name;
		if (previous !== undefined) {
			previous.#row.served_name = null;
			[this.#row.port, previous.#row.port] = [previous.#row.port, null];
			[this.#front, previous.#front] = [previous.#front, undefined];
			this.#front?.serve(this);
			previous.#record.signalChange();
		}
		this.#record.signalChange();
		// The new one first: a crash in between leaves two that answer, not none.
		await this.#record.save();
		if (previous !== undefined) await previous.#record.trySave();
	}

	/** Whether requests for this name are for it. */
	answersTo(name: string): boolean {
		const { served_name, model_name, revision } = this.#row;
		return name === served_name || name === `${model_name}@${revision}`;
	}

	get #hasPort(): boolean {
		return this.#row.port !== null;
	}

	/** Where requests go; without an address until the engine has said one, which no state but `ready` lets be used. */
	upstream(): Upstream {
		const { service_id, state, base_url, instance_id } = this.#row;
		const headers = this.#deps.engine.requestHeaders(instance_id ?? "");
		return {
			key: service_id,
			baseUrl: base_url ?? "",
			state,
			policy: this.#config.load_balancing ?? "least_outstanding",
			timeoutMs: requestTimeoutMs(this.#config),
			load: this.load,
			authorize: () => headers,
		};
	}

	/**
	 * Drains and ends the engine: no new requests, those under way finish or time out, SIGTERM, SIGKILL.
	 * `keepRow`: the agent goes, the service is wanted again when it comes back.
	 * @throws RESOURCE_UNAVAILABLE process_stuck; the same call may be made again
	 */
	async stop({ timeoutMs, keepRow }: { timeoutMs: number; keepRow: boolean }): Promise<void> {
		this.#stopping ??= this.#end({ timeoutMs, keepRow });
		try {
			await this.#stopping;
		} catch (error) {
			this.#stopping = undefined;
			throw error;
		}
	}

	/** Lets go of the engine without ending it. */
	async detach(): Promise<void> {
		this.#halt.abort();
		this.#record.signalChange();
		await this.#supervisor;
		this.#process?.[Symbol.dispose]();
		await this.#record.trySave();
		await this.#letGo();
	}

	async #end({ timeoutMs, keepRow }: { timeoutMs: number; keepRow: boolean }): Promise<void> {
		const { clock, store } = this.#deps;
		if (this.state !== "stopping" && this.state !== "stopped") this.#record.move("stop");
		this.#halt.abort();
		await this.#supervisor;
		// From here on a crash of the agent ends in a stopped service, not in a restarted one.
		if (!keepRow) await this.#record.trySave();
		await this.load.whenIdle({ clock }, timeoutMs);
		await this.#kill(this.#policy.killGraceMs);
		await this.#letGo();
		if (this.state === "stopping") this.#record.move("ended");
		if (keepRow) {
			await this.#record.save();
			return;
		}
		await store.remove(this.#row.service_id);
		for (const path of [this.logPath, `${this.logPath}.1`]) rmSync(path, { force: true });
	}

	async #supervise(found: DetachedProcess | undefined, open: { isRecovery: boolean }): Promise<void> {
		this.#process = found;
		try {
			await this.#open(open);
			while (!this.#halt.signal.aborted) {
				this.#process ??= await this.#launch();
				const ending = this.#process === undefined ? undefined : await this.#watch(this.#process);
				// Halted: whoever did it takes care of the process.
				if (ending === undefined) return;
				this.#process = undefined;
				this.#record.clearProcess();
				await this.#afterCrash(ending);
			}
		} catch (error) {
			// Halted: the engine is to end or to be left alone, whatever this was.
			if (!this.#halt.signal.aborted) await this.#giveUp(asGswarmError(error));
		} finally {
			this.#firstLook.resolve();
		}
	}

	async #open({ isRecovery }: { isRecovery: boolean }): Promise<void> {
		this.#hold = this.#deps.hold();
		try {
			if (this.#hasPort) this.#front ??= await this.#deps.openFront();
		} catch (error) {
			// The engine is worth more than its port: the gateway reaches it, and the port is tried again.
			if (!isRecovery) throw error;
			this.#row.error = asGswarmError(error).message;
			this.#deps.log.warn("service.front_unavailable", { port: this.#row.port, error });
		}
	}

	/** Undefined when the supervisor was halted before there was a process. */
	async #launch(): Promise<DetachedProcess | undefined> {
		const { clock, ids, engine, environment } = this.#deps;
		const { service_id, model_path, model_name } = this.#row;
		const instanceId = `${service_id}.${ids.short(12)}`;
		const launch = engine.launch({
			instanceId,
			modelPath: model_path,
			modelName: model_name,
			config: this.#config,
		});
		trimLog(this.logPath, this.#policy.logLimitBytes);
		this.#logStartByte = logSize(this.logPath);
		this.#logSeenByte = this.#logStartByte;
		// The name first: a process that is started and not recorded can be found by it.
		this.#record.clearProcess();
		Object.assign(this.#row, {
			instance_id: instanceId,
			started_at: clock.nowMs() / 1000,
			ready_s: null,
		});
		await this.#record.save();
		if (this.#halt.signal.aborted) return undefined;
		this.#launchedMs = clock.monotonicMs();
		const process = spawnDetached({
			argv: launch.argv,
			environment: minimalEnvironment(environment, launch.environment),
			logPath: this.logPath,
		});
		this.#process = process;
		this.#record.setProcess(process.identity);
		this.#deps.log.info("service.launched", { instance_id: instanceId, pid: process.identity.pid });
		await this.#record.trySave();
		this.#firstLook.resolve();
		return process;
	}

	/** Asks for health until the process ends, falls silent (then it is killed), or the supervisor is halted. */
	async #watch(process: DetachedProcess): Promise<Ending | undefined> {
		const { clock } = this.#deps;
		const policy = this.#policy.health;
		const gone = new AbortController();
		const wake = AbortSignal.any([gone.signal, this.#halt.signal]);
		let exit: ExitStatus | undefined;
		const noteExit = async (): Promise<void> => {
			exit = await process.exited;
			gone.abort();
		};
		void noteExit();
		let failures = 0;
		let answeredMs = clock.monotonicMs();
		for (;;) {
			const verdict = wake.aborted ? "silent" : await this.#check(wake);
			if (this.#halt.signal.aborted) return undefined;
			if (exit !== undefined) {
				if (exit.code !== null || exit.signal !== null) killLeftovers(process.identity);
				return { kind: "exited", exit };
			}
			const nowMs = clock.monotonicMs();
			const isStarting = this.state === "starting";
			const isGood = verdict === "ready" || (verdict === "loading" && isStarting);
			failures = isGood ? 0 : failures + 1;
			if (isGood) answeredMs = nowMs;
			if (verdict === "ready" && isStarting) await this.#becomeReady();
			const isSilent = isStarting
				? nowMs - answeredMs >= policy.startSilenceMs
				: failures >= policy.failureLimit;
			if (verdict === "foreign" || isSilent) {
				await this.#becomeUnhealthy(verdict);
				return { kind: "silent" };
			}
			this.#firstLook.resolve();
			await this.#keepHouse();
			const pauseMs =
				this.state === "starting" ? startPauseMs(nowMs - this.#launchedMs, policy) : policy.intervalMs;
			await clock.sleep(pauseMs, wake);
		}
	}

	async #check(signal: AbortSignal): Promise<HealthVerdict> {
		const { clock, engine } = this.#deps;
		const instanceId = this.#row.instance_id ?? "";
		if (this.#row.base_url === null) {
			const { lines, nextByte } = linesFrom(this.logPath, this.#logSeenByte);
			this.#logSeenByte = nextByte;
			const endpoint = lines.map((line) => engine.readEndpoint(line, instanceId)).find(Boolean);
			if (endpoint === undefined) return "silent";
			this.#row.base_url = endpoint.baseUrl;
			await this.#record.trySave();
		}
		const { timeoutMs } = this.#policy.health;
		return checkHealth({ clock, engine }, { baseUrl: this.#row.base_url, instanceId, timeoutMs }, signal);
	}

	async #becomeReady(): Promise<void> {
		// Of an adopted engine that was ready before, the time it took then stays.
		this.#row.ready_s ??= (this.#deps.clock.monotonicMs() - this.#launchedMs) / 1000;
		if (this.#front !== undefined || !this.#hasPort) this.#row.error = null;
		this.#hasBeenReady = true;
		this.#record.move("answered");
		this.#deps.log.info("service.ready", { pid: this.#row.pid, ready_s: this.#row.ready_s });
		await this.#record.trySave();
	}

	async #becomeUnhealthy(verdict: string): Promise<void> {
		this.#deps.log.warn("service.unhealthy", { verdict, pid: this.#row.pid });
		this.#record.move("silent");
		await this.#record.trySave();
		await this.#kill(this.#policy.hungGraceMs);
	}

	/** Restarts after a pause. @throws the failure, when that is pointless or was tried often enough */
	async #afterCrash(ending: Ending): Promise<void> {
		const { clock, engine, log } = this.#deps;
		const { restart } = this.#policy;
		const nowMs = clock.monotonicMs();
		this.#crashesMs = [...recentCrashes(this.#crashesMs, nowMs, restart), nowMs];
		const lines = tailLines(this.logPath, DETAIL_LINES, { fromByte: this.#logStartByte });
		const failure = describeFailure(engine, this.#row, ending, lines);
		if (ending.kind === "exited" && engine.readExit(ending.exit.code).isPermanent) throw failure;
		const decision = decideRestart(this.#crashesMs, nowMs, restart);
		if (decision.action === "give_up") throw failure;
		log.warn("service.crashed", { error: failure.message, restart_in_ms: decision.delayMs });
		this.#row.restarts++;
		this.#row.ready_s = null;
		this.#row.error = failure.message;
		this.#record.move("exited");
		await this.#record.trySave();
		await clock.sleep(decision.delayMs, this.#halt.signal);
	}

	async #giveUp(failure: GswarmError): Promise<void> {
		const { log } = this.#deps;
		log.error("service.failed", { error: failure });
		try {
			await this.#kill(this.#policy.hungGraceMs);
			await this.#letGo();
		} catch (error) {
			// It stays recorded; stop tries again.
			log.error("service.not_ended", { error, pid: this.#row.pid });
		}
		this.#row.error = failure.message;
		this.#failure = failure;
		this.#record.move("gave_up");
		// A failure before the first launch leaves nothing behind that a later agent would have to know.
		if (this.#row.instance_id !== null) await this.#record.trySave();
	}

	async #kill(graceMs: number): Promise<void> {
		if (this.#process === undefined) return;
		await killGroup(this.#deps, this.#process.identity, { graceMs });
		this.#process[Symbol.dispose]();
		this.#process = undefined;
		this.#record.clearProcess();
	}

	async #letGo(): Promise<void> {
		await this.#front?.close();
		this.#front = undefined;
		this.#hold?.[Symbol.dispose]();
		this.#hold = undefined;
	}

	async #keepHouse(): Promise<void> {
		// Not before the line with the address was read.
		const mayTrim = this.#row.base_url !== null;
		if (mayTrim && trimLog(this.logPath, this.#policy.logLimitBytes)) this.#logStartByte = 0;
		if (this.#record.isUnsaved) await this.#record.trySave();
		if (this.#front !== undefined || !this.#hasPort) return;
		try {
			this.#front = await this.#deps.openFront();
			this.#row.error = null;
			this.#record.signalChange();
		} catch (error) {
			// Still taken; the row shows it.
			this.#row.error = asGswarmError(error).message;
		}
	}
}

function stoppedMeanwhile(serviceId: string): GswarmError {
	return new GswarmError("CONFLICT", `The service ${serviceId} was stopped before it was ready.`, {
		reason: "service_stopped",
		details: { service_id: serviceId },
	});
}

function failedBefore(row: ServiceRow): GswarmError {
	return new GswarmError("TASK_FAILED", row.error ?? `The service ${row.service_id} failed.`, {
		reason: "service_failed",
		details: { service_id: row.service_id },
	});
}
