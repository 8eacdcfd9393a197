/** What the kernel tells of GPUs without any driver's library: which there are, AMD's figures, and who may use them. */
import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { blankReading, type GpuReading } from "./reading.ts";

const NVIDIA = "0x10de";
const AMD = "0x1002";
/** PCI classes of display controllers, 3D controllers among them. */
const DISPLAY = /^0x03/;

/** Whether there is anything to look for: a cheap question, so that a machine without a GPU starts no process for it. */
export function hasGpus(root: string): boolean {
	const signs = ["dev/nvidiactl", "proc/driver/nvidia/version", "dev/dxg"];
	if (signs.some((path) => existsSync(join(root, path)))) return true;
	return nvidiaOnBus(root) > 0 || amdCards(root).length > 0;
}

/** How many of NVIDIA's GPUs are on the bus, whether or not there is a driver for them. */
export function nvidiaOnBus(root: string): number {
	const folder = join(root, "sys/bus/pci/devices");
	return list(folder).filter(
		(name) =>
			readText(join(folder, name, "vendor")) === NVIDIA &&
			DISPLAY.test(readText(join(folder, name, "class")) ?? ""),
	).length;
}

/** Why this user cannot use one of NVIDIA's devices; null when nothing speaks against it. */
export function permissionProblem(root: string, index: number): string | null {
	for (const name of ["dev/nvidiactl", `dev/nvidia${index}`]) {
		const path = join(root, name);
		if (!existsSync(path)) continue;
		try {
			accessSync(path, constants.R_OK | constants.W_OK);
		} catch {
			return `this user may not open /${name}`;
		}
	}
	return null;
}

/** AMD's GPUs, by what the amdgpu driver writes below /sys; they come behind `first` others. */
export function readAmd(root: string, first: number): GpuReading[] {
	return amdCards(root).map((card, at) => {
		const number = (name: string, scale = 1): number | null => {
			const text = readText(join(card, name));
			return text !== undefined && /^\d{1,18}$/.test(text) ? Number(text) / scale : null;
		};
		const sensors = list(join(card, "hwmon")).map((name) => join("hwmon", name));
		const sensor = (names: readonly string[], scale: number): number | null =>
			sensors
				.flatMap((folder) => names.map((name) => number(join(folder, name), scale)))
				.find((value) => value !== null) ?? null;
		const product = readText(join(card, "product_name")) ?? "";
		const id = readText(join(card, "unique_id")) ?? "";
		return {
			...blankReading({
				index: first + at,
				vendor: "amd",
				product: product === "" ? "AMD GPU" : product,
				problem: "models cannot be loaded to AMD GPUs yet; its figures are shown",
			}),
			uuid: id === "" ? null : id,
			totalBytes: number("mem_info_vram_total"),
			usedBytes: number("mem_info_vram_used"),
			usagePercent: number("gpu_busy_percent"),
			// Millidegrees, microwatts.
			temperatureC: sensor(["temp1_input"], 1e3),
			powerW: sensor(["power1_average", "power1_input"], 1e6),
			powerLimitW: sensor(["power1_cap"], 1e6),
		};
	});
}

/** Directories of AMD's cards, in their order; connectors (card0-DP-1) are none. */
function amdCards(root: string): string[] {
	const folder = join(root, "sys/class/drm");
	return list(folder)
		.filter((name) => /^card\d+$/.test(name))
		.sort((a, b) => Number(a.slice(4)) - Number(b.slice(4)))
		.map((name) => join(folder, name, "device"))
		.filter(
			(card) => readText(join(card, "vendor")) === AMD && existsSync(join(card, "mem_info_vram_total")),
		);
}

function list(folder: string): string[] {
	try {
		return readdirSync(folder);
	} catch {
		return [];
	}
}

function readText(path: string): string | undefined {
	try {
		return readFileSync(path, "utf8").trim();
	} catch {
		return undefined;
	}
}
