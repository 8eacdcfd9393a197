/** Names within a bundle; a command that reads one needs no more. */

/** The first entry. */
export const BUNDLE_ENTRY = "gswarm-bundle.json";
/** What the files of the model are below. */
export const BUNDLE_FOLDER = "files";
