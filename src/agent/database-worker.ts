/** Entry of the writer thread: the only one that writes the agent's database. */
import { serveDatabase } from "../platform/database.ts";
import { databaseModules } from "./database-modules.ts";

serveDatabase(databaseModules);
