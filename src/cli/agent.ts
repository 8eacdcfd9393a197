/** The one door from the command line to the agent: a type here, the code only when the agent is started. */
import type { runAgent } from "../agent/agent.ts";

/** What the flags of `gswarm agent` come to. */
export type AgentOptions = Parameters<typeof runAgent>[0];
