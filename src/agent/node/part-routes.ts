/** What the host asks of this node about parts of its operations. */
import type { Handlers } from "../http/app.ts";
import { SENT_HEADER } from "../../schema/operation.ts";
import type { HostedWork } from "./hosted-work.ts";

export function partRoutes({
	hosted,
}: {
	hosted: HostedWork;
}): Pick<Handlers<"node">, "followPart" | "revokePart"> {
	return {
		followPart: ({ query, request }) => {
			const sentMs = Number(request.headers.get(SENT_HEADER) ?? Number.NaN);
			return hosted.follow(query, Number.isFinite(sentMs) ? sentMs : undefined);
		},
		revokePart: ({ body }) => hosted.revoke(body),
	};
}
