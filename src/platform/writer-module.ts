/** What a room brings to the writer thread: its tables, and its write operations by name. */
import type { Database as Sqlite } from "bun:sqlite";

/** Write operations by name; the input is structured-cloned to the writer thread, the result back. */
// oxlint-disable-next-line typescript/no-explicit-any -- the types of each operation are recovered by Writer<T>
export type WriteTable = Record<string, (db: Sqlite, input: any) => unknown>;

export interface WriterModule {
	room: string;
	/** SQL of 0001, 0002 …; append-only. */
	migrations: readonly string[];
	writes: WriteTable;
	/** Inputs and results are plain JSON: they cross the thread's border as text, in half the time that a clone takes. */
	isJson?: true;
}
