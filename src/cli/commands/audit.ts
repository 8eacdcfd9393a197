import { ROUTES } from "../../api/table.gen.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { auditTable } from "../render/audit.ts";
import { safeLine } from "../render/safe-text.ts";
import { nearest } from "../suggest.ts";
import { count, duration } from "../values.ts";

export const command = defineCommand({
	about:
		"Shows who did what on this agent and who was refused, the newest first, a page at a time. Changes of people and machines are in it, and every refusal of a token or role; reading, heartbeats and the use of models are not.",
	args: {
		since: {
			type: "string",
			value: duration,
			valueHint: "TIME",
			description: "Not older than this, e.g. 2h or 7d",
		},
		actor: { type: "string", valueHint: "NAME", description: "Only of this token or node, by name or id" },
		action: { type: "string", valueHint: "ACTION", description: "Only this action, e.g. deleteModel" },
		limit: {
			type: "string",
			value: count,
			default: "50",
			valueHint: "N",
			description: "Entries on a page, at most 200",
		},
		cursor: { type: "string", valueHint: "CURSOR", description: "Where the last page ended" },
	},
	examples: [
		["audit --since 1d", "what was done since yesterday"],
		["audit --actor ann -o wide", "what ann did, from which address"],
	],
	next: ["token list", "queue history"],
	async run({ api, out, say, style, width, world }, { since, actor, action, limit, cursor }) {
		const nowMs = world.clock.nowMs();
		const body = await (await api()).call("listAudit", {
			query: {
				limit,
				...(since === undefined ? {} : { since: Math.floor((nowMs - since) / 1000) }),
				...(actor === undefined ? {} : { actor }),
				...(action === undefined ? {} : { action }),
				...(cursor === undefined ? {} : { cursor }),
			},
		});
		await out.show(body, {
			names: () => body.entries.map((entry) => String(entry.seq)),
			human: (wide) => (body.entries.length === 0 ? "" : auditTable(body.entries, { style, width, wide })),
		});
		if (body.lost > 0) say.warn(`${body.lost} entries could not be written; the agent's log says why.`);
		if (body.entries.length === 0) {
			const isFiltered = [since, actor, action, cursor].some((filter) => filter !== undefined);
			say.info(isFiltered ? "No entry fits." : "Nothing was done yet.");
			if (action !== undefined && !Object.hasOwn(ROUTES, action)) {
				const meant = nearest(action, Object.keys(ROUTES));
				say.hint(
					`There is no action ${safeLine(action)}${meant === undefined ? "" : `; did you mean ${meant}?`}`,
				);
			}
		} else if (body.next_cursor !== null) say.next([`audit --cursor ${body.next_cursor}`]);
		return EXIT.done;
	},
});
