/** The OpenAI-compatible front. */
import type { Route } from "../route.ts";
import { BOTH } from "./fields.ts";

export const gatewayRoutes = {
	gatewayModels: {
		method: "GET",
		path: "/v1/models",
		summary: "OpenAI: the models that are served",
		role: "inference",
		on: BOTH,
		status: 200,
	},
	gatewayChat: {
		method: "POST",
		path: "/v1/chat/completions",
		summary: "OpenAI chat completions, SSE too, routed by `model`",
		role: "inference",
		on: BOTH,
		status: 200,
	},
	gatewayCompletions: {
		method: "POST",
		path: "/v1/completions",
		summary: "OpenAI completions, routed by `model`",
		role: "inference",
		on: BOTH,
		status: 200,
	},
	gatewayEmbeddings: {
		method: "POST",
		path: "/v1/embeddings",
		summary: "OpenAI embeddings, routed by `model`",
		role: "inference",
		on: BOTH,
		status: 200,
	},
} as const satisfies Record<string, Route>;
