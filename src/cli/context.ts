/** What a command gets: the flags everybody shares, the streams, the clock and the way to the agent. */
import type { ApiClient, ApiClientOptions } from "../api/client.ts";
import { GswarmError } from "../schema/errors.ts";
import type { Clock } from "../platform/clock.ts";
import type { CompletionSpec } from "./completion/spec.ts";
import { type Connection, findConnection } from "./connection.ts";
import type { Environment } from "./environment.ts";
import type { Globals } from "./global-flags.ts";
import { type Messages, createMessages } from "./messages.ts";
import { type Output, createOutput } from "./output.ts";
import { type Style, createStyle } from "./render/style.ts";
import { type Screen, createScreen } from "./screen.ts";
import type { Terminal } from "./terminal.ts";

/** The outside of the program; tests bring their own. */
export interface World {
	environment: Environment;
	terminal: Terminal;
	clock: Clock;
	/** Replaces the network, and with it the search for an agent. */
	send?: NonNullable<ApiClientOptions["send"]>;
}

export interface Context {
	readonly world: World;
	readonly globals: Globals;
	/** Data directory that was named or is the default. */
	readonly dataDir: string;
	readonly out: Output;
	/** Colours for the standard output. */
	readonly style: Style;
	/** Columns of the standard output, undefined where nothing is cut. */
	readonly width: number | undefined;
	readonly screen: Screen;
	readonly say: Messages;
	/** What a shell must know of all commands. */
	completionSpec(): Promise<CompletionSpec>;
	/** The client of the agent. @throws when there is none */
	api(): Promise<ApiClient>;
}

const CALL_TIMEOUT_MS = 30_000;
/** A submit that is cut off has perhaps been accepted: however short the waiting, a call gets this long. */
const LEAST_CALL_TIMEOUT_MS = 5_000;

export function createContext(
	world: World,
	globals: Globals,
	{ completionSpec }: Pick<Context, "completionSpec">,
): Context {
	const { stdout, stderr } = world.terminal;
	const colour = globals.color && !world.environment.noColor;
	const screen = createScreen(stderr);
	const say = createMessages(
		{ screen, style: createStyle(colour && stderr.isTty) },
		{ quiet: globals.quiet, debug: globals.debug, dataDir: globals["data-dir"] },
	);
	const format = globals.json ? "json" : (globals.output ?? "table");
	let client: Promise<ApiClient> | undefined;
	return {
		world,
		globals,
		dataDir: globals["data-dir"] ?? world.environment.dataDir,
		out: createOutput(stdout, { format, quiet: globals.quiet }),
		style: createStyle(colour && stdout.isTty),
		width: stdout.columns(),
		completionSpec,
		screen,
		say,
		api: () => (client ??= connect(world, globals, say)),
	};
}

async function connect(world: World, globals: Globals, say: Messages): Promise<ApiClient> {
	const { createApiClient } = await import("../api/client.ts");
	const wanted = globals.timeout ?? CALL_TIMEOUT_MS;
	const timeoutMs = Math.min(Math.max(wanted, LEAST_CALL_TIMEOUT_MS), CALL_TIMEOUT_MS);
	const { send } = world;
	const connection: Connection =
		send === undefined
			? findConnection(world.environment, globals["data-dir"])
			: { url: "http://agent.test", token: undefined, nodeOnly: false };
	const { url, token } = connection;
	say.debug(`agent ${url}${connection.nodeOnly ? " (a node)" : ""}`);
	const transport = send ?? ((request: Request, init: BunFetchRequestInit) => fetch(request, init));
	const client = createApiClient({
		baseUrl: url,
		token: () => token,
		timeoutMs,
		send: async (request, init) => {
			const from = world.clock.monotonicMs();
			const response = await transport(request, init);
			const ms = Math.round(world.clock.monotonicMs() - from);
			say.debug(`${request.method} ${new URL(request.url).pathname} ${response.status} ${ms} ms`);
			return response;
		},
	});
	return connection.nodeOnly ? askTheHostInstead(client) : client;
}

/** Some questions only a host answers; whoever asks a node is told so. */
function askTheHostInstead(client: ApiClient): ApiClient {
	const explain = (error: unknown): never => {
		if (!(error instanceof GswarmError) || error.reason !== "no_such_route") throw error;
		throw new GswarmError(error.code, "This agent is a node, and only its host answers this.", {
			details: error.details,
			hint: "Run it where the host runs, or name the host with GSWARM_HOST and GSWARM_TOKEN_FILE.",
			cause: error,
		});
	};
	return {
		baseUrl: client.baseUrl,
		call: async (id, input) => await client.call(id, input).catch(explain),
		open: async (id, input) => await client.open(id, input).catch(explain),
	};
}
