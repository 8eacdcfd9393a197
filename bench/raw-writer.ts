/**
 * The least that a durable cycle can cost on this machine: a writer thread with one table and one index, that commits
 * what arrives together, at synchronous=FULL. It knows no priorities, reservations, dependencies, retries or history.
 */
import { Database } from "bun:sqlite";

type Ask = [id: number, operation: "submit" | "claim" | "settle" | "settleAndClaim", input: number | string];

const scope = globalThis as unknown as {
	postMessage(replies: [number, number | null][]): void;
	onmessage: (event: MessageEvent<{ open: string } | Ask>) => void;
};
let waiting: Ask[] = [];
let handle: (ask: Ask) => number | null = () => null;
let commit: (work: () => void) => void = () => undefined;

scope.onmessage = ({ data }) => {
	if (!Array.isArray(data)) return open(data.open);
	if (waiting.length === 0) setImmediate(flush);
	waiting.push(data);
};

function open(path: string): void {
	const db = new Database(path, { create: true, strict: true });
	db.run("PRAGMA journal_mode=WAL");
	db.run("PRAGMA synchronous=FULL");
	db.run("CREATE TABLE task (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, request TEXT NOT NULL) STRICT");
	db.run("CREATE INDEX ready ON task (id) WHERE state = 0");
	db.run("CREATE TABLE event (id INTEGER PRIMARY KEY, task INTEGER NOT NULL, state INTEGER NOT NULL) STRICT");
	const insert = db.query("INSERT INTO task (state, request) VALUES (0, ?1)");
	const head = db.query<{ id: number }, []>("SELECT id FROM task INDEXED BY ready WHERE state = 0 LIMIT 1");
	const put = db.query("UPDATE task SET state = ?2 WHERE id = ?1");
	const log = db.query("INSERT INTO event (task, state) VALUES (?1, ?2)");
	const claim = (): number | null => {
		const id = head.all()[0]?.id;
		if (id === undefined) return null;
		put.run(id, 1);
		log.run(id, 1);
		return id;
	};
	const settle = (id: number): void => {
		put.run(id, 2);
		log.run(id, 2);
	};
	handle = ([, operation, input]) => {
		if (operation === "submit") {
			const id = Number(insert.run(input).lastInsertRowid);
			log.run(id, 0);
			return id;
		}
		if (operation === "claim") return claim();
		settle(Number(input));
		return operation === "settle" ? null : claim();
	};
	commit = (work) => db.transaction(work).immediate();
	scope.postMessage([]);
}

function flush(): void {
	const batch = waiting;
	waiting = [];
	const replies: [number, number | null][] = [];
	commit(() => {
		for (const ask of batch) replies.push([ask[0], handle(ask)]);
	});
	scope.postMessage(replies);
}
