//! Every bound of the product, named with its unit last.

use std::time::Duration;

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
/// Blocks of one image: 8 TiB.
pub const IMAGE_BLOCKS_MAX: u64 = 1 << 28;
/// Bytes of one index text.
pub const INDEX_BYTES_MAX: usize = 4 << 30;
/// Bytes of an index that an inbound message may carry whole; larger ones come in parts.
pub const INDEX_PART_BYTES_MAX: usize = 768 << 10;
/// The staging directory, next to the directories that it becomes.
pub const STAGING_DIR_NAME: &str = ".ciruela-staging";

/// Bytes of one WebSocket message in `ciruela.v2`, received or sent.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// Bytes of one message from a `ciruela.v1` client, whose index comes in one piece.
pub const MESSAGE_V1_BYTES_MAX: usize = 256 << 20;
/// Nesting of CBOR that is received.
pub const CBOR_DEPTH_MAX: usize = 16;
/// Signatures on one change.
pub const SIGNATURES_MAX: usize = 32;
/// Hosts in one answer.
pub const HOSTS_MAX: usize = 64;
/// Bytes of a reason, detail or host name in a message.
pub const TEXT_BYTES_MAX: usize = 8_192;
/// Requests that one side may have unanswered on one connection.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;
/// Messages queued to be written on one connection.
pub const SEND_QUEUE_MESSAGES_MAX: usize = 1_024;

/// Bytes of the blocks that one `GetBlocks` may ask for: one message.
pub const RUN_BYTES_MAX: usize = 1 << 20;
/// Blocks that one `GetBlocks` may ask for (they may be tiny).
pub const RUN_BLOCKS_MAX: u32 = 256;
/// Block runs asked for and not yet stored, per source and deployment.
pub const RUNS_IN_FLIGHT_MAX: usize = 8;
/// Sources asked at once, per deployment.
pub const SOURCES_MAX: usize = 10;
/// Images which one connection may offer.
pub const PUBLISHED_PER_CONNECTION_MAX: usize = 1_024;
/// Deployments registered and not ended, per node.
pub const DEPLOYS_MAX: usize = 4_096;
/// Deployments that use disk and network at once, per node.
pub const DEPLOYS_ACTIVE_MAX: usize = 8;

/// A stamp may be this far ahead of the node's own clock.
pub const STAMP_AHEAD_MAX: Duration = Duration::from_mins(10);
/// A source that has not answered a request for this long is dropped for that image.
pub const SOURCE_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// First pause before a failed disk step is tried again; it doubles up to [`RETRY_PAUSE_MAX`].
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause before a failed disk step is tried again.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Progress notifications to one watcher are at least this far apart.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// A connection that says nothing and has nothing to do is closed.
pub const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// A handshake takes no longer.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a directory config, key file or peers file.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;
/// Files in `configs/` or `keys/`.
pub const CONFIG_FILES_MAX: usize = 10_000;
/// Keys which one directory accepts.
pub const KEYS_PER_DIRECTORY_MAX: usize = 1_000;
/// Components after the key which a directory config may ask for.
pub const NUM_LEVELS_MAX: usize = 16;

/// Addresses of a cluster name that the client connects to at first.
pub const INITIAL_CONNECTIONS: usize = 3;
/// The port, TCP and UDP, unless told otherwise.
pub const DEFAULT_PORT: u16 = 24_783;

/// Files of at least this many bytes get their space reserved when the tree is staged; smaller ones are made when their
/// first block comes.
pub const PREALLOCATE_BYTES_MIN: u64 = 1 << 20;
/// Entries which one step of garbage collection removes.
pub const COLLECT_STEP_ENTRIES_MAX: usize = 10_000;
/// Bytes of a file that are read and hashed at once when a staged or visible tree is checked.
pub const CHECK_BYTES_MAX: usize = 4 << 20;
/// Bytes of the state database that are kept in memory.
pub const DATABASE_CACHE_BYTES_MAX: usize = 64 << 20;
