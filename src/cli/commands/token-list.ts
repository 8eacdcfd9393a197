import type { TokenDocument } from "../../schema/token.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { formatAge, formatTime } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { paintStatus } from "../render/style.ts";
import { renderTable } from "../render/table.ts";

export const command = defineCommand({
	about:
		"Lists who may talk to this cluster: tokens of people, join strings for machines, and the admin's own. It never shows a secret. When a token was used last is known to the minute, for calls of the host.",
	args: { all: { type: "boolean", description: "Also those that were revoked, expired or used up" } },
	examples: [
		["token list", "who may get in?"],
		["token list --all", "and who could, lately?"],
	],
	next: ["token create --role user --name NAME", "token revoke NAME"],
	async run({ api, out, say, style, width, world }, { all }) {
		const body = await (await api()).call("listTokens", {});
		const nowMs = world.clock.nowMs();
		const shown = body.tokens.filter((token) => all || token.status === "active");
		await out.show(body, {
			names: () => shown.map((token) => token.name ?? token.token_id),
			human: () => {
				if (shown.length === 0) return "";
				const rows = shown.map((token) => [
					safeLine(token.name ?? "-"),
					safeLine(token.kind === "user" ? token.role : token.kind),
					paintStatus(style, safeLine(token.status)),
					safeLine(endOf(token)),
					token.last_used_at === null ? "-" : formatAge(token.last_used_at, nowMs),
					safeLine(token.created_by ?? "-"),
					safeLine(token.token_id),
				]);
				const columns = [
					{ title: "NAME" },
					{ title: "ROLE" },
					{ title: "STATUS" },
					{ title: "EXPIRES", shrink: true },
					{ title: "USED", shrink: true },
					{ title: "MADE BY", shrink: true },
					{ title: "ID" },
				];
				return renderTable(columns, rows, { width, style });
			},
		});
		if (!shown.some((token) => token.kind === "user")) say.next(["token create --role user --name NAME"]);
		return EXIT.done;
	},
});

function endOf({ expires_at: end, uses_left: uses }: TokenDocument): string {
	const until = end === null ? "never" : formatTime(end);
	return uses === null ? until : `${until}, ${uses} more`;
}
