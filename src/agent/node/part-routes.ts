/** What the host asks of this node about parts of its operations. */
import type { Handlers } from "../http/app.ts";
import type { HostedWork } from "./hosted-work.ts";

export function partRoutes({
	hosted,
}: {
	hosted: HostedWork;
}): Pick<Handlers<"node">, "followPart" | "revokePart"> {
	return {
		followPart: ({ query }) => hosted.follow(query),
		revokePart: ({ body }) => hosted.revoke(body),
	};
}
