/** Guards of receivers that give each other what they have. */
import type { Guard } from "./guard.ts";

const PLAN = ["test/transfer/swarm-plan.test.ts"];
const SWARM = ["test/transfer/swarm.test.ts"];
const CLUSTER = ["test/cluster/swarm.test.ts"];

export const SWARM_GUARDS: readonly Guard[] = [
	{
		name: "swarm_not_landed",
		file: "src/core/transfer/shares.ts",
		find: "if (!share.holds(fileIndex, range)) throw notHere();",
		replace: "",
		tests: SWARM,
	},
	{
		name: "swarm_withdrawn",
		file: "src/core/transfer/shares.ts",
		find: "this.epoch = `${this.#firstEpoch}.${++this.#epochs}`;",
		replace: "",
		tests: SWARM,
	},
	{
		name: "swarm_liar_dropped",
		file: "src/core/transfer/swarm.ts",
		find: "		peer.isDropped = true;\n",
		replace: "",
		tests: SWARM,
	},
	{
		name: "swarm_claimed_digest",
		file: "src/core/transfer/intake.ts",
		find: '(claimed === "" ? undefined : claimed)',
		replace: "undefined",
		tests: SWARM,
	},
	{
		name: "swarm_suspects",
		file: "src/core/transfer/intake.ts",
		find: "verdict.badParts ?? input.others?.suspects(file)",
		replace: "verdict.badParts",
		tests: SWARM,
	},
	{
		name: "swarm_doubtful_from_origin",
		file: "src/core/transfer/swarm.ts",
		find: "for (const number of again) this.#doubtful.add(number);",
		replace: "",
		tests: SWARM,
	},
	{
		name: "swarm_nobody_has_it",
		file: "src/core/transfer/swarm.ts",
		find: "if (nowMs - this.#busyMs > 2 * stallMs) throw noSource();",
		replace: "",
		tests: SWARM,
	},
	{
		name: "swarm_owner",
		file: "src/core/transfer/swarm-plan.ts",
		find: "ownerOf(part, state.members) === state.self ||",
		replace: "true ||",
		tests: PLAN,
	},
	{
		name: "swarm_owner_away",
		file: "src/core/transfer/swarm-plan.ts",
		find: "if (members[member] === true) return member;",
		replace: "return member;",
		tests: PLAN,
	},
	{
		name: "swarm_rarest",
		file: "src/core/transfer/swarm-plan.ts",
		find: "holders.length < best.holders.length ||",
		replace: "",
		tests: PLAN,
	},
	{
		name: "swarm_read_by_another",
		file: "src/core/transfer/swarm-plan.ts",
		find: "!relays.some((peer) => peer.isReading(part) || peer.has(part))",
		replace: "true",
		tests: PLAN,
	},
	{
		name: "swarm_receivers_only",
		file: "src/agent/host/swarms.ts",
		find: "self < 0 || ",
		replace: "",
		tests: CLUSTER,
	},
	{
		name: "swarm_known_bytes_only",
		file: "src/agent/host/swarms.ts",
		find: " || (sealed !== null && sealed.content_id !== key)",
		replace: "",
		tests: CLUSTER,
	},
	{
		name: "swarm_operation_live",
		file: "src/agent/host/swarms.ts",
		find: " || isTerminal(operation.status)",
		replace: "",
		tests: CLUSTER,
	},
	{
		name: "swarm_have_on_grant",
		file: "src/agent/node/peer-routes.ts",
		find: "check(bearer, params.content_id);\n			const question",
		replace: "const question",
		tests: CLUSTER,
	},
	{
		name: "swarm_let_go",
		file: "src/agent/node/swarm-routes.ts",
		find: "for (const grant of grants.values()) d.grants.revoke(grant);",
		replace: "",
		tests: CLUSTER,
	},
];
