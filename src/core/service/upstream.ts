/** Where a request for a model can go: an engine of this node, or the gateway of another one. */
import type { BalancePolicy, InstanceState } from "../../schema/service.ts";

import type { Load } from "./load.ts";

export interface Upstream {
	/** Unique among all upstreams of a gateway, e.g. the service id. */
	key: string;
	/** Where `/v1/…` is appended to; no slash at the end. Only ever built by agents, never from a request. */
	baseUrl: string;
	state: InstanceState;
	policy: BalancePolicy;
	/** From the first byte sent to the last byte received; then the request is cancelled. */
	timeoutMs: number;
	/** Requests under way. Left out: the gateway counts them itself, by key. */
	load?: Load;
	/** Headers that authorise this agent at the upstream, made anew for each request. */
	authorize?: () => Record<string, string>;
	/** Whom to meet, where the upstream speaks https: PEM of the CA, and the name in the certificate. */
	tls?: { ca: string; serverName: string };
}

export interface ServedModel {
	/** The full name that requests ask for. */
	id: string;
	/** Seconds since the epoch. */
	created: number;
}

/** Who knows upstreams: the services of a node, or a host that knows the services of its nodes. */
export interface UpstreamSource {
	/** All of a model, in every state; empty when the model is not served. */
	upstreams(model: string): Upstream[];
	/** Models with at least one ready upstream. */
	models(): ServedModel[];
}
