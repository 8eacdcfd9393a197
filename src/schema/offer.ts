/** Pieces of a bundle that a person's machine sends, because a node wants them. */

/** Of one piece, at most: short enough that a slow line brings one before anybody takes it for broken. */
export const OFFER_PIECE_BYTES = 1024 * 1024;
/** In the place of a file's number: the description with which a bundle begins. */
export const OFFER_DESCRIPTION = -1;

export interface OfferPiece {
	/** As the files lie in the bundle, from 0. */
	file: number;
	/** Within the file, half open. */
	start: number;
	end: number;
}
