/** The one door from the command line into the agent. */
export { runAgent } from "../agent/agent.ts";
