/**
 * Services of one node: models that an engine process serves, and the gateway in front of them.
 *
 * States of an instance: starting → ready → unhealthy → stopping → stopped | failed. A crashed engine is started
 * again after a pause, five crashes in ten minutes are the end. Engines run in process groups of their own, write to
 * files, and outlive the agent: the next agent finds them by pid, start time, boot and their own word, and takes them
 * over, or ends them. What was asked to run runs again after a restart of agent or machine, until it is stopped.
 *
 * It does not choose a node or a tier, does not bring models, checks no tokens and opens no ports: the queue's
 * handlers call start and stop, the HTTP layer gives `openFront` and calls the gateway.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError, notFound } from "../../schema/errors.ts";
import type { ModelName, Revision } from "../../schema/names.ts";
import type { Framework, ServiceDocument } from "../../schema/service.ts";
import type { Engine } from "./engine.ts";
import { type OpenFront, openServiceFront, servedModel } from "./front.ts";
import { HEALTH_POLICY } from "./health.ts";
import { Instance, type InstancePolicy } from "./instance.ts";
import { tailLines } from "./log-tail.ts";
import { RESTART_POLICY } from "./restart.ts";
import { assertSame, findProcess, newRow, type ServiceRequest } from "./service-row.ts";
import { createServiceStore, parseConfig, type ServiceRow, type ServiceStore } from "./service-store.ts";
import type { ServedModel, Upstream, UpstreamSource } from "./upstream.ts";

export { createLlamaEngine, type LlamaOptions } from "./engines/llama.ts";
export { createGateway, type Gateway } from "./gateway.ts";
export type { Front, InstancePolicy } from "./instance.ts";
export type { ServiceConfig } from "./service-config.ts";
export { serviceIdOf } from "./service-id.ts";
export { serviceModule } from "./service-store.ts";
export type { ServedModel, Upstream, UpstreamSource } from "./upstream.ts";

export interface StartRequest extends ServiceRequest {
	/** Aborting ends an engine that is not ready yet and that nobody else waits for. */
	signal: AbortSignal;
	onPhase?: (phase: "starting" | "ready") => void;
}

export interface Services extends UpstreamSource, AsyncDisposable {
	/**
	 * Starts a service and resolves when it takes requests; asked again for the same service it joins the first start.
	 * @throws TASK_FAILED with the engine's last log lines in `details.log` (reasons model_load_failed, engine_crashed,
	 * bad_engine_arguments, engine_absent); CONFLICT port_in_use, service_exists, service_stopped
	 */
	start(request: StartRequest): Promise<ServiceDocument>;
	/**
	 * Starts a service beside the one that answers to the model's name, gives it the name (and the port) when it takes
	 * requests, and stops the other. A request at any time finds one of the two. Asked again after a crash it goes on.
	 * @throws as start; what was there goes on serving then
	 */
	replace(
		request: StartRequest,
		previousId: string | undefined,
		options: { timeoutMs: number },
	): Promise<ServiceDocument>;
	/**
	 * Drains for at most `timeoutMs`, ends the engine and forgets the service.
	 * @throws NOT_FOUND service_not_found
	 */
	stop(serviceId: string, options: { timeoutMs: number }): Promise<void>;
	list(): ServiceDocument[];
	/** @throws NOT_FOUND service_not_found */
	get(serviceId: string): ServiceDocument;
	/** The last lines that the engine wrote. @throws NOT_FOUND service_not_found */
	logs(serviceId: string, lines: number): Promise<string>;
	/**
	 * Once, at the start of the agent: takes over engines that still run, ends those that are not what their row says,
	 * and starts in the background what is wanted and not there.
	 */
	recover(): Promise<void>;
	/** Something in `list` changed. The listener must not throw. */
	onChange(listener: () => void): Disposable;
	/** The agent restarts: engines go on, and nothing here is of use any more. */
	detach(): Promise<void>;
	/** The agent ends: engines are drained and ended, their services start again with the next agent. */
	[Symbol.asyncDispose](): Promise<void>;
}

export interface ServiceDependencies {
	db: Database;
	clock: Clock;
	ids: Ids;
	log: Log;
	engines: Readonly<Record<Framework, Engine>>;
	/** Marks the copy as in use until disposed. @throws when there is no such copy */
	hold: (
		served: { model: ModelName; revision: Revision; tier: string; path: string },
		why: string,
	) => Disposable;
	/** Hears of every request that an engine gets. */
	used?: (model: ModelName, revision: Revision, tier: string) => void;
	openFront: OpenFront;
}

export interface ServiceOptions {
	nodeName: string;
	/** For the engines' logs; made with mode 0700. */
	directory: string;
	/** The agent's environment, of which engines get PATH, HOME, LANG and TMPDIR. */
	environment: Readonly<Record<string, string | undefined>>;
	/** Base URL of the front on a port, or of the node's gateway. */
	urlOf: (port: number | undefined) => string;
	/** Whether a device is a simulated one; left out: none is. */
	isSimulated?: (tier: string) => boolean;
	policy?: Partial<InstancePolicy>;
	/** For requests under way when the agent ends. */
	drainTimeoutMs?: number;
}

const DEFAULT_POLICY: InstancePolicy = {
	health: HEALTH_POLICY,
	restart: RESTART_POLICY,
	killGraceMs: 10_000,
	hungGraceMs: 2000,
	logLimitBytes: 16 << 20,
};
const DRAIN_TIMEOUT_MS = 5000;

export function openServices(deps: ServiceDependencies, options: ServiceOptions): Services {
	mkdirSync(options.directory, { recursive: true, mode: 0o700 });
	return new NodeServices(deps, options);
}

class NodeServices implements Services {
	readonly #deps: ServiceDependencies;
	readonly #options: ServiceOptions;
	readonly #policy: InstancePolicy;
	readonly #store: ServiceStore;
	readonly #instances = new Map<string, Instance>();
	readonly #waiting = new Map<Instance, number>();
	readonly #listeners = new Set<() => void>();
	#isClosed = false;

	constructor(deps: ServiceDependencies, options: ServiceOptions) {
		this.#deps = deps;
		this.#options = options;
		this.#policy = { ...DEFAULT_POLICY, ...options.policy };
		this.#store = createServiceStore(deps);
	}

	async start(request: StartRequest): Promise<ServiceDocument> {
		const { serviceId, signal, onPhase } = request;
		this.#assertOpen();
		signal.throwIfAborted();
		let instance = this.#instances.get(serviceId);
		if (instance !== undefined && isEnding(instance)) {
			await instance.stop({ timeoutMs: this.#drainTimeoutMs, keepRow: false });
			this.#forget(instance);
			return this.start(request);
		}
		if (instance === undefined) {
			instance = this.#create(newRow(request, this.#deps.clock.nowMs()));
			instance.start();
		} else assertSame(instance.row, request);
		onPhase?.("starting");
		await this.#waitUntilReady(instance, signal);
		onPhase?.("ready");
		return this.#document(instance);
	}

	async replace(
		request: StartRequest,
		previousId: string | undefined,
		options: { timeoutMs: number },
	): Promise<ServiceDocument> {
		const { serviceId } = request;
		const previous = previousId === serviceId ? undefined : this.#instances.get(previousId ?? "");
		// What was asked of the one before is asked of this one, but for what is said now.
		const config = { ...(previous === undefined ? {} : parseConfig(previous.row)), ...request.config };
		// One that has the name already may have the port too: it is not started like that again.
		if (this.#instances.get(serviceId)?.row.served_name === null || !this.#instances.has(serviceId))
			await this.start({ ...request, config, hasName: false, port: undefined });
		const next = this.#find(serviceId);
		await this.#waitUntilReady(next, request.signal);
		await next.takeName(previous);
		if (previous !== undefined) await this.stop(previous.row.service_id, options);
		return this.#document(next);
	}

	async stop(serviceId: string, { timeoutMs }: { timeoutMs: number }): Promise<void> {
		const instance = this.#find(serviceId);
		await instance.stop({ timeoutMs, keepRow: false });
		this.#forget(instance);
	}

	list(): ServiceDocument[] {
		return [...this.#instances.values()].map((instance) => this.#document(instance));
	}

	get(serviceId: string): ServiceDocument {
		return this.#document(this.#find(serviceId));
	}

	logs(serviceId: string, lines: number): Promise<string> {
		const { logPath } = this.#find(serviceId);
		const now = tailLines(logPath, lines);
		const before = now.length < lines ? tailLines(`${logPath}.1`, lines - now.length) : [];
		return Promise.resolve([...before, ...now].map((line) => `${line}\n`).join(""));
	}

	upstreams(model: string): Upstream[] {
		return [...this.#instances.values()]
			.filter(
				(instance) =>
					instance.answersTo(model) && instance.state !== "stopping" && instance.state !== "stopped",
			)
			.map((instance) => instance.upstream());
	}

	models(): ServedModel[] {
		const ready = [...this.#instances.values()].filter(({ state }) => state === "ready");
		return [...new Map(ready.map((instance) => [servedModel(instance).id, servedModel(instance)])).values()];
	}

	async recover(): Promise<void> {
		this.#assertOpen();
		await Promise.all(this.#store.all().map((row) => this.#recover(row)));
	}

	onChange(listener: () => void): Disposable {
		this.#listeners.add(listener);
		return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
	}

	async detach(): Promise<void> {
		if (this.#isClosed) return;
		this.#isClosed = true;
		await Promise.all([...this.#instances.values()].map((instance) => instance.detach()));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.#isClosed) return;
		this.#isClosed = true;
		const running = [...this.#instances.values()].filter(({ state }) => state !== "failed");
		await Promise.all(
			running.map((instance) => instance.stop({ timeoutMs: this.#drainTimeoutMs, keepRow: true })),
		);
	}

	async #recover(row: ServiceRow): Promise<void> {
		const identity = findProcess(row);
		const instance = this.#create(row);
		if (row.state !== "stopping" && row.state !== "failed") {
			await instance.recover(identity);
			return;
		}
		instance.takeOver(identity);
		if (row.state === "failed") return;
		// The agent died in the middle of a stop; it is finished now.
		await instance.stop({ timeoutMs: 0, keepRow: false });
		this.#forget(instance);
	}

	/** Waits for the outcome of a start; the last waiter that leaves takes an engine with it that is not ready. */
	async #waitUntilReady(instance: Instance, signal: AbortSignal): Promise<void> {
		this.#waiting.set(instance, (this.#waiting.get(instance) ?? 0) + 1);
		try {
			await instance.whenReady(signal);
		} finally {
			const others = (this.#waiting.get(instance) ?? 1) - 1;
			if (others > 0) this.#waiting.set(instance, others);
			else this.#waiting.delete(instance);
			const isGivenUp = signal.aborted && others === 0 && !instance.hasBeenReady;
			const neverRan = instance.state === "failed" && instance.row.instance_id === null;
			if (!this.#isClosed && (isGivenUp || neverRan)) {
				await instance.stop({ timeoutMs: 0, keepRow: false });
				this.#forget(instance);
			}
		}
	}

	#create(row: ServiceRow): Instance {
		const { clock, ids, log, engines, hold, used } = this.#deps;
		const { model_name, revision, tier, service_id, model_path: path } = row;
		const instance: Instance = new Instance(
			{
				clock,
				ids,
				log,
				engine: engines[row.framework],
				store: this.#store,
				environment: this.#options.environment,
				hold: () => hold({ model: model_name, revision, tier, path }, `service ${service_id}`),
				used: () => used?.(model_name, revision, tier),
				openFront: () => openServiceFront(this.#deps, instance),
				onChange: () => {
					for (const listener of this.#listeners) listener();
				},
			},
			{ row, logPath: join(this.#options.directory, `${service_id}.log`), policy: this.#policy },
		);
		this.#instances.set(service_id, instance);
		return instance;
	}

	#forget(instance: Instance): void {
		const { service_id } = instance.row;
		// Two callers may have waited for one stop, and a new service of that id may stand there by now.
		if (this.#instances.get(service_id) === instance) this.#instances.delete(service_id);
		for (const listener of this.#listeners) listener();
	}

	#find(serviceId: string): Instance {
		const instance = this.#instances.get(serviceId);
		if (instance === undefined)
			throw notFound("service", serviceId, "`gswarm service list` shows the services.");
		return instance;
	}

	#document({ row, load }: Instance): ServiceDocument {
		const { nodeName, urlOf, isSimulated } = this.#options;
		return {
			service_id: row.service_id,
			model_name: row.model_name,
			device: `${nodeName}:${row.tier}`,
			node: nodeName,
			framework: row.framework,
			state: row.state,
			url: urlOf(row.port ?? undefined),
			port: row.port,
			pid: row.pid,
			started_at: row.started_at,
			ready_s: row.ready_s,
			restarts: row.restarts,
			requests: load.total,
			load_balancing: parseConfig(row).load_balancing ?? "least_outstanding",
			error: row.error,
			...(isSimulated?.(row.tier) === true ? { simulated: true as const } : {}),
			revision: row.revision,
			served_name: row.served_name,
		};
	}

	#assertOpen(): void {
		if (!this.#isClosed) return;
		throw new GswarmError("RESOURCE_UNAVAILABLE", "The agent is stopping.", {
			reason: "stopping",
			retryable: true,
		});
	}

	get #drainTimeoutMs(): number {
		return this.#options.drainTimeoutMs ?? DRAIN_TIMEOUT_MS;
	}
}

/** Failed, or on its way out: a new start does not join it but comes after it. */
function isEnding({ state }: Instance): boolean {
	return state === "failed" || state === "stopping" || state === "stopped";
}
