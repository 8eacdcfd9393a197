/** An agent as a process of its own, on ports that the system chooses; an error ends it as one line of JSON. */
import { type AgentOptions } from "../../src/agent/options.ts";
import { runAgent } from "../../src/agent/agent.ts";
import { asGswarmError } from "../../src/schema/errors.ts";

try {
	process.exit(await runAgent(JSON.parse(process.argv[2] ?? "{}") as AgentOptions));
} catch (error) {
	const { code, reason, message, hint } = asGswarmError(error);
	process.stdout.write(`${JSON.stringify({ code, reason, message, hint, error: String(error) })}\n`);
	process.exit(1);
}
