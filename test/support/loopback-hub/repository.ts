import { type Snapshot, takeSnapshot } from "./snapshot.ts";

export interface HubRepository {
	/** What `main` points to. */
	dir: string;
	/** More branches and tags, each a directory of its own. */
	revisions?: Record<string, string>;
	/** Listed for everybody, downloaded only with a token that may. */
	gated?: boolean;
	/** Does not exist for anybody without a token that may. */
	private?: boolean;
}

/** Commits of one repository and the names that point to them. */
export class Repository {
	readonly id: string;
	readonly gated: boolean;
	readonly private: boolean;
	#byCommit = new Map<string, Snapshot>();
	#byName = new Map<string, Snapshot>();

	constructor(id: string, { dir, revisions = {}, gated = false, private: hidden = false }: HubRepository) {
		this.id = id;
		this.gated = gated;
		this.private = hidden;
		for (const [name, source] of Object.entries({ main: dir, ...revisions })) this.publish(name, source);
	}

	publish(revision: string, dir: string): string {
		const snapshot = takeSnapshot(dir);
		this.#byCommit.set(snapshot.sha, snapshot);
		this.#byName.set(revision, snapshot);
		return snapshot.sha;
	}

	at(revision: string): Snapshot | undefined {
		return this.#byName.get(revision) ?? this.#byCommit.get(revision);
	}
}
