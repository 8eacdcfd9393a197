/**
 * Opens files below a folder without being led out of it. On Linux every component is opened relative to the one
 * before (through /proc/self/fd) and never through a symlink, so that nobody can swap a folder in between; elsewhere
 * the resolved path is compared before and after.
 */
import { constants, type FileHandle, lstat, open, realpath, rmdir, unlink } from "node:fs/promises";
import { basename, dirname, relative, sep } from "node:path";

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** Whether `path` is the folder or below it; both absolute and resolved. */
export function isInside(folder: string, path: string): boolean {
	return path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

/**
 * Opens `path`, which is resolved and inside `folder`, for reading.
 * @throws the system's error; ELOOP or ENOTDIR when a component has become a symlink
 */
export async function openBeneath(folder: string, path: string): Promise<FileHandle> {
	if (process.platform !== "linux") return await openCompared(path);
	const components = relative(folder, path)
		.split(sep)
		.filter((component) => component !== "");
	let handle = await open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	for (const [index, component] of components.entries()) {
		const isLast = index === components.length - 1;
		const parent = handle;
		try {
			// A fifo must not hold us up when it is opened.
			handle = await open(
				`/proc/self/fd/${parent.fd}/${component}`,
				O_RDONLY | O_NOFOLLOW | (isLast ? O_NONBLOCK : O_DIRECTORY),
			);
		} finally {
			await parent.close();
		}
	}
	return handle;
}

async function openCompared(path: string): Promise<FileHandle> {
	const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	if ((await realpath(path)) === path) return handle;
	await handle.close();
	throw Object.assign(new Error(`${path} was replaced while it was opened`), { code: "ELOOP" });
}

/**
 * Removes a name below `folder`, whose parents are reached as openBeneath does; the bytes that it alone kept. What is
 * not there any more frees nothing.
 */
export async function unlinkBeneath(folder: string, path: string): Promise<number> {
	return await inParent(folder, path, async (place) => {
		const info = await lstat(place);
		await unlink(place);
		return info.isFile() && info.nlink === 1 ? info.size : 0;
	});
}

/** Removes a directory below `folder` where it is empty; whether it went. */
export async function rmdirBeneath(folder: string, path: string): Promise<boolean> {
	const gone = await inParent(folder, path, async (place) => {
		try {
			await rmdir(place);
			return 1;
		} catch (error) {
			const { code } = error as NodeJS.ErrnoException;
			if (code === "ENOTEMPTY" || code === "EEXIST") return 0;
			throw error;
		}
	});
	return gone === 1;
}

/**
 * Gives a name below `folder` to work that opens it itself, and without following a link: its parents are reached as
 * openBeneath does, and stay those that they were.
 * @throws as openBeneath
 */
export async function atBeneath<T>(
	folder: string,
	path: string,
	work: (place: string) => Promise<T>,
): Promise<T> {
	const parent = await openBeneath(folder, dirname(path));
	try {
		return await work(process.platform === "linux" ? `/proc/self/fd/${parent.fd}/${basename(path)}` : path);
	} finally {
		await parent.close();
	}
}

async function inParent(
	folder: string,
	path: string,
	work: (place: string) => Promise<number>,
): Promise<number> {
	try {
		return await atBeneath(folder, path, work);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "ENOENT") return 0;
		throw error;
	}
}
