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
	/** Where the agent is, and with which token. @throws when there is none */
	connection(): Connection;
	/** A client of another agent. */
	clientOf(connection: Connection): Promise<ApiClient>;
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
		{
			quiet: globals.quiet,
			debug: globals.debug,
			dataDir: globals["data-dir"],
			context: globals.context,
		},
	);
	const format = globals.json ? "json" : (globals.output ?? "table");
	let client: Promise<ApiClient> | undefined;
	let found: Connection | undefined;
	const connection = (): Connection => (found ??= connectionIn(world, globals));
	const clientOf = (to: Connection): Promise<ApiClient> => connect(world, globals, say, to);
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
		connection,
		clientOf,
		// Awaited inside, so that having no agent is a rejection.
		api: () => (client ??= (async () => await clientOf(connection()))()),
	};
}

function connectionIn({ send, environment }: World, globals: Globals): Connection {
	if (send === undefined)
		return findConnection(environment, { dataDir: globals["data-dir"], context: globals.context });
	return { url: "http://agent.test", token: undefined, ca: undefined, nodeOnly: false, context: undefined };
}

async function connect(
	world: World,
	globals: Globals,
	say: Messages,
	connection: Connection,
): Promise<ApiClient> {
	const { createApiClient } = await import("../api/client.ts");
	const wanted = globals.timeout ?? CALL_TIMEOUT_MS;
	const timeoutMs = Math.min(Math.max(wanted, LEAST_CALL_TIMEOUT_MS), CALL_TIMEOUT_MS);
	const { url, token, ca, serverName } = connection;
	say.debug(`agent ${url}${connection.nodeOnly ? " (a node)" : ""}`);
	const transport = world.send ?? ((request: Request, init: BunFetchRequestInit) => fetch(request, init));
	const client = createApiClient({
		baseUrl: url,
		token: () => token,
		timeoutMs,
		...(ca === undefined ? {} : { tls: { ca, ...(serverName === undefined ? {} : { serverName }) } }),
		send: async (request, init) => {
			const from = world.clock.monotonicMs();
			const response = await transport(request, init);
			const ms = Math.round(world.clock.monotonicMs() - from);
			say.debug(`${request.method} ${new URL(request.url).pathname} ${response.status} ${ms} ms`);
			return response;
		},
	});
	return explained(client, (error) => explain(error, connection));
}

/** What an error means for who sits here: the API does not know how they came to it. */
function explain(error: unknown, { context, nodeOnly, url }: Connection): unknown {
	if (!(error instanceof GswarmError)) return error;
	const { code, message, reason, details, status } = error;
	const anew = (hint: string, change: { code?: typeof code; message?: string } = {}): GswarmError =>
		new GswarmError(change.code ?? code, change.message ?? message, {
			details,
			status,
			hint,
			cause: error,
			...(reason === undefined ? {} : { reason }),
		});
	if (nodeOnly && reason === "no_such_route") {
		return anew("Run it where the host runs, or `gswarm login` to the host.", {
			message: "This agent is a node, and only its host answers this.",
		});
	}
	if (reason === "tls_failed") {
		return anew(
			context === undefined
				? "If it is the right address: `gswarm login URL --ca-pin HEX`, with the pin from the host's admin, or name its CA in GSWARM_CA_FILE."
				: `Its certificate is not of the cluster that ${context} was made for. If the cluster was set up anew: \`gswarm login ${url} --ca-pin HEX\`.`,
			{ code: "UNAUTHORIZED" },
		);
	}
	if (context === undefined) return error;
	if (code === "UNAUTHORIZED")
		return anew(`\`gswarm login ${url} --context ${context}\` with a token that an admin of it makes.`);
	if (code === "NETWORK_ERROR") {
		return anew(
			`That is the context ${context}. \`gswarm context list\` shows others; \`--context local\` is this machine's agent.`,
		);
	}
	return error;
}

function explained(client: ApiClient, words: (error: unknown) => unknown): ApiClient {
	const told = (error: unknown): never => {
		throw words(error);
	};
	return {
		baseUrl: client.baseUrl,
		call: async (id, input) => await client.call(id, input).catch(told),
		open: async (id, input) => await client.open(id, input).catch(told),
	};
}
