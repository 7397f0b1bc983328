//! Images, their indexes and their pieces.

/// Bytes of a block, fixed by the index format's published writers.
pub const BLOCK_BYTES: usize = 32_768;
/// Bytes of one component of a path.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a path inside an image, and of a virtual path.
pub const PATH_BYTES_MAX: usize = 4_096;
/// Bytes of a symlink's target (Linux: `PATH_MAX` - 1).
pub const SYMLINK_TARGET_BYTES_MAX: usize = 4_095;
/// Directories nested in an image.
pub const DEPTH_MAX: usize = 1_024;
/// Directories, files and links of one image.
pub const IMAGE_ENTRIES_MAX: usize = 20_000_000;
/// Blocks of one image: 512 GiB, whose index is about 1 GiB.
pub const IMAGE_BLOCKS_MAX: u64 = 1 << 24;
/// Bytes of one index text.
pub const INDEX_BYTES_MAX: usize = 5 << 28;
/// Bytes of an index that an inbound message may carry whole; larger ones come in parts.
pub const INDEX_PART_BYTES_MAX: usize = 768 << 10;
/// Of the indexes that are being fetched, one at a time may have more bytes than that: until its hash is compared, it is only
/// somebody's word that it is one.
pub const INDEX_LARGE_BYTES: usize = 64 << 20;

/// Least bytes of a piece, unless the image is smaller.
pub const PIECE_BYTES_MIN: u64 = 256 << 10;
/// Most bytes of a piece.
pub const PIECE_BYTES_MAX: u64 = 8 << 20;
/// Pieces which an image is cut into, as far as their sizes' bounds allow.
pub const PIECES_AIMED: u64 = 1_000;
/// Pieces of one image.
pub const PIECES_MAX: usize = 65_536;
const _: () = assert!(IMAGE_BLOCKS_MAX * BLOCK_BYTES as u64 == PIECES_MAX as u64 * PIECE_BYTES_MAX);
