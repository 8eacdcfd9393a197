/** A writer thread with the tables of the queue alone. */
import { queueModule } from "../src/core/queue/queue.ts";
import { serveDatabase } from "../src/platform/database.ts";

serveDatabase([queueModule]);
