/** A writer thread with the tables of the database's tests. */
import { serveDatabase } from "../../src/platform/database.ts";
import { notesModule } from "./notes-module.ts";

serveDatabase([notesModule]);
