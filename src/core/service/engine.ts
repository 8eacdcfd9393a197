/**
 * What a kind of model server must tell so that an instance of it can be run: how to launch it, where it listens,
 * how its health is read, and what its exit means. An engine holds no state and starts nothing itself.
 */
import type { ModelName } from "../../schema/names.ts";
import type { ServiceConfig } from "./service-config.ts";

export interface EngineLaunch {
	/** Program and arguments; every value from a caller is one whole argument. */
	argv: string[];
	/** What the child gets beyond PATH, HOME, LANG and TMPDIR. */
	environment: Record<string, string>;
}

export interface LaunchInput {
	instanceId: string;
	modelPath: string;
	modelName: ModelName;
	config: ServiceConfig;
}

/**
 * `ready`: takes requests. `loading`: alive, not yet. `foreign`: another process answers there.
 * `silent`: no answer, a wrong one, or it does not take requests any more.
 */
export type HealthVerdict = "ready" | "loading" | "foreign" | "silent";

export interface ExitMeaning {
	/** snake_case, e.g. `model_load_failed`. */
	reason: string;
	/** Starting it again would end the same way. */
	isPermanent: boolean;
}

export interface Engine {
	/** The wire's `framework`. */
	readonly name: string;
	/** @throws INVALID_REQUEST when the configuration cannot be met */
	launch(input: LaunchInput): EngineLaunch;
	/** Reads where the engine listens from a line of its log, when this line of this instance says it. */
	readEndpoint(line: string, instanceId: string): { baseUrl: string } | undefined;
	/** Path of the health check, query included. */
	healthPath(instanceId: string): string;
	readHealth(status: number, body: string, instanceId: string): HealthVerdict;
	readExit(code: number | null): ExitMeaning;
	/** Why the engine says it failed, from the lines of its log; undefined when it did not say. */
	readFailure(lines: readonly string[]): { reason: string; message: string } | undefined;
	/** Headers that go with every request that is carried to the engine. */
	requestHeaders(instanceId: string): Record<string, string>;
}
