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
/// Blocks of one image: 512 GiB, whose index is about 1 GiB.
pub const IMAGE_BLOCKS_MAX: u64 = 1 << 24;
/// Bytes of one index text.
pub const INDEX_BYTES_MAX: usize = 5 << 28;
/// Bytes of an index that an inbound message may carry whole; larger ones come in parts.
pub const INDEX_PART_BYTES_MAX: usize = 768 << 10;
/// Threads that one scan uses at most.
pub const SCAN_THREADS_MAX: usize = 64;
/// Bytes that a scanning thread reads before it hashes them: the size of its buffer.
pub const SCAN_BATCH_BYTES: usize = 512 << 10;
/// Blocks that a scanning thread hashes at once; small files have small blocks.
pub const SCAN_BATCH_BLOCKS_MAX: usize = 256;
/// Bytes, of one file or many, that a scanning thread takes on at once: larger files are shared between threads.
pub const SCAN_CLAIM_BYTES: u64 = 4 << 20;
/// Files that a scanning thread takes on at once.
pub const SCAN_CLAIM_FILES_MAX: usize = 256;
/// Files that an image's reader keeps open.
pub const READER_OPEN_FILES_MAX: usize = 32;
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
/// Least bytes of a piece, unless the image is smaller.
pub const PIECE_BYTES_MIN: u64 = 256 << 10;
/// Most bytes of a piece.
pub const PIECE_BYTES_MAX: u64 = 8 << 20;
/// Pieces which an image is cut into, as far as their sizes' bounds allow.
pub const PIECES_AIMED: u64 = 1_000;
/// Pieces of one image.
pub const PIECES_MAX: usize = 65_536;
const _: () = assert!(IMAGE_BLOCKS_MAX * BLOCK_BYTES as u64 == PIECES_MAX as u64 * PIECE_BYTES_MAX);
/// Pieces in one message that says which were completed.
pub const HAVE_PIECES_MAX: usize = 4_096;
/// Nodes of which one message tells a client.
pub const NODES_PER_MESSAGE_MAX: usize = 256;
/// Changes, or paths whose changes are asked for, in one message between nodes; with all their signatures they fit.
pub const CHANGES_PER_MESSAGE_MAX: usize = 64;
/// Ranges of heads in one message, or in one answer.
pub const HEAD_RANGES_MAX: usize = 64;
/// Heads told in one range.
pub const HEADS_PER_RANGE_MAX: usize = 64;
/// Hosts in one answer.
pub const HOSTS_MAX: usize = 64;
/// Bytes of a reason, detail or host name in a message.
pub const TEXT_BYTES_MAX: usize = 8_192;
/// Requests that one side may have unanswered on one connection.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;
/// Messages queued to be written on one connection.
pub const SEND_QUEUE_MESSAGES_MAX: usize = 1_024;
/// Bytes queued to be written on one connection; what every active deployment may ask of one source fits.
pub const SEND_QUEUE_BYTES_MAX: usize = DEPLOYS_ACTIVE_MAX * RUNS_IN_FLIGHT_MAX * RUN_BYTES_MAX;
/// Bytes written to a connection before it is flushed, and read from it at once.
pub const SOCKET_BUFFER_BYTES: usize = 128 << 10;
/// Bytes of a change's canonical CBOR.
pub const CHANGE_BYTES_MAX: usize = 8_192;
/// Keys of one CBOR map with named fields, known or not.
pub const MAP_FIELDS_MAX: usize = 64;
/// Bytes of a message type's name, of a field's name and of other such words.
pub const WORD_BYTES_MAX: usize = 64;
/// Names of keys that would have been accepted, in one answer.
pub const ACCEPTED_KEYS_MAX: usize = 64;
/// Bytes of an HTTP request's or response's head.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Connections that were made and that the daemon has not yet come to accept; the system may have a lower bound.
pub const CONNECTIONS_WAITING_MAX: u32 = 1_024;
/// Connections over the maximum that are told so at the same time; further ones are only closed.
pub const CONNECTIONS_REFUSED_AT_ONCE_MAX: usize = 64;

/// Bytes of the blocks that one `GetBlocks` may ask for: one message.
pub const RUN_BYTES_MAX: usize = 1 << 20;
/// Blocks that one `GetBlocks` may ask for (they may be tiny).
pub const RUN_BLOCKS_MAX: u32 = 256;
/// Block runs of the largest size asked for and not yet stored, per source and deployment.
pub const RUNS_IN_FLIGHT_MAX: usize = 8;
/// Blocks asked for and not yet stored, per `ciruela.v1` source, which gives single blocks.
pub const BLOCKS_IN_FLIGHT_V1_MAX: usize = 64;
/// Bytes asked for and not yet stored, per source and deployment.
pub const SOURCE_BYTES_IN_FLIGHT_MAX: u64 = (RUNS_IN_FLIGHT_MAX * RUN_BYTES_MAX) as u64;
/// Questions for blocks asked and not yet stored, over all deployments of a node: what all of them may bring fits in the
/// send queue of one source, so that none is cut off for being slow.
pub const QUESTIONS_IN_FLIGHT_MAX: usize = 48;
const _: () = assert!(QUESTIONS_IN_FLIGHT_MAX * RUN_BYTES_MAX < SEND_QUEUE_BYTES_MAX);
/// Publishers asked at once, per deployment.
pub const SOURCES_MAX: usize = 10;
/// Nodes per image of which is known what they have.
pub const NEIGHBOURS_MAX: usize = 32;
/// Images which a connection may offer that has not yet submitted any well signed change: the next ones are ignored.
pub const PUBLISHED_BY_STRANGER_MAX: usize = 64;
/// Images which one connection may offer.
pub const PUBLISHED_PER_CONNECTION_MAX: usize = 1_024;
/// Deployments registered and not ended, per node.
pub const DEPLOYS_MAX: usize = 4_096;
/// Deployments that use disk and network at once, per node.
pub const DEPLOYS_ACTIVE_MAX: usize = 8;

/// A stamp may be this far ahead of the node's own clock.
pub const STAMP_AHEAD_MAX: Duration = Duration::from_mins(10);
/// A source that was asked and has said nothing for this long is dropped for that image.
pub const SOURCE_ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// One question asks for no more than a source is likely to answer within this, one block at least. A source that
/// takes four times as long is asked one question at a time.
pub const SOURCE_ANSWER_QUICK: Duration = Duration::from_secs(1);
/// An answer that doesn't take longer than this is never late; what is late is asked of somebody else, too.
pub const HEDGE_AFTER_MIN: Duration = Duration::from_millis(100);
/// An answer that takes longer than this is late.
pub const HEDGE_AFTER_MAX: Duration = Duration::from_secs(20);
/// A piece that only one neighbour has is left to other neighbours of it for no longer.
pub const PIECE_HELD_MAX: Duration = Duration::from_secs(2);
/// What a bounded rate lets through at once after a pause: as much as passes in this time.
pub const PACE_BURST: Duration = Duration::from_millis(100);
/// First pause before a failed disk step is tried again; it doubles up to [`RETRY_PAUSE_MAX`].
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause before a failed disk step is tried again.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Progress notifications to one watcher are at least this far apart.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// A connection that says nothing and has nothing to do is closed.
pub const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// How often a side shows that it is alive, and looks whether the other is.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Saying goodbye takes no longer.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Looking up one name takes no longer.
/// Looking up one name takes no longer until it has addresses.
pub const NAME_LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// When a name's A records are there, its AAAA records must be there this much later, and the other way round.
pub const NAME_LOOKUP_GRACE: Duration = Duration::from_secs(2);
/// A handshake takes no longer.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a directory config, key file or peers file.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;
/// Files in `configs/` or `keys/`.
pub const CONFIG_FILES_MAX: usize = 10_000;
/// Keys which one directory accepts.
pub const KEYS_PER_DIRECTORY_MAX: usize = 1_000;
/// Bytes of a private key's text.
pub const PRIVATE_KEY_BYTES_MAX: usize = 64 << 10;
/// Rounds of bcrypt that an encrypted private key may ask for (`ssh-keygen -a`): about a minute.
pub const KEY_BCRYPT_ROUNDS_MAX: u32 = 10_000;
/// Characters of a key's comment that are shown.
pub const KEY_COMMENT_CHARS_MAX: usize = 128;
/// Bytes of one message of an ssh-agent, the bound which OpenSSH has too.
pub const AGENT_MESSAGE_BYTES_MAX: usize = 256 << 10;
/// An ssh-agent that doesn't say which keys it has for this long is left out.
pub const AGENT_LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// An ssh-agent may ask its user before it signs; it gets this long.
pub const AGENT_SIGN_TIMEOUT: Duration = Duration::from_mins(1);
/// How often the client asks for the passphrase of one key.
pub const PASSPHRASE_TRIES_MAX: usize = 3;
/// Peers in `peers.txt`.
pub const PEERS_MAX: usize = 10_000;
/// YAML nodes (keys, values, list items) in one configuration file.
pub const CONFIG_NODES_MAX: usize = 100_000;
/// Nesting of YAML in a configuration file.
pub const CONFIG_DEPTH_MAX: usize = 8;
/// Problems reported for one configuration file.
pub const CONFIG_PROBLEMS_MAX: usize = 100;
/// Components after the key which a directory config may ask for.
pub const NUM_LEVELS_MAX: usize = 16;

/// Addresses of a cluster name that the client connects to at first.
pub const INITIAL_CONNECTIONS: usize = 3;
/// The port, TCP and UDP, unless told otherwise.
pub const DEFAULT_PORT: u16 = 24_783;
/// First pause before the client connects again to a node that it lost; it doubles up to [`RECONNECT_PAUSE_MAX`].
pub const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause before the client connects again.
pub const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A node that can't be reached for this long counts as down.
pub const DOWN_AFTER: Duration = Duration::from_secs(10);
/// Longest time that one `ciruela sync` may be told to take: a year.
pub const SYNC_DURATION_MAX: Duration = Duration::from_hours(365 * 24);
/// Names that one `ciruela sync` takes.
pub const ENTRY_POINTS_MAX: usize = 256;
/// Nodes of one cluster that the client connects to, chosen at first or named by others.
pub const CLIENT_PEERS_MAX: usize = 1_024;
/// Answers to the client's questions (names, connections, signatures) that wait for its loop.
pub const CLIENT_ANSWERS_QUEUED_MAX: usize = 1_024;
/// Messages of all its connections that wait for the client's loop.
pub const CLIENT_EVENTS_QUEUED_MAX: usize = 64;
/// When all is done, the client waits no longer for its connections to be closed properly.
pub const CLIENT_GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
/// Different troubles with sources and keys that the client tells of.
pub const TROUBLES_TOLD_MAX: usize = 20;
/// How often a change is signed again with a later stamp, because what it replaces is stamped ahead of the client's clock.
pub const SIGN_AGAIN_MAX: usize = 3;

/// Files of at least this many bytes get their space reserved when the tree is staged; smaller ones are made when their
/// first block comes.
pub const PREALLOCATE_BYTES_MIN: u64 = 1 << 20;
/// Entries which one step of garbage collection removes.
pub const COLLECT_STEP_ENTRIES_MAX: usize = 10_000;
/// Bytes of a file that are read and hashed at once when a staged or visible tree is checked.
pub const CHECK_BYTES_MAX: usize = 4 << 20;
/// Disk jobs that wait for a thread.
pub const DISK_JOBS_QUEUED_MAX: usize = 65_536;
/// Bytes of the state database that are kept in memory.
pub const DATABASE_CACHE_BYTES_MAX: usize = 64 << 20;

/// A daemon of the demo that doesn't listen after this time has failed.
pub const DEMO_START_TIMEOUT: Duration = Duration::from_secs(30);
/// A daemon of the demo that hasn't ended this long after SIGTERM is killed.
pub const DEMO_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an interrupted demo waits for `sync` to say how far it came.
pub const DEMO_GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections that each daemon of the demo takes.
pub const DEMO_CONNECTIONS_MAX: usize = 100;
/// Lines of a demo daemon's log that are shown when something went wrong.
pub const DEMO_LOG_LINES_SHOWN_MAX: usize = 15;
/// Buffers of a megabyte that are kept for the next frames.
pub const FRAMES_POOLED_MAX: usize = 24;
/// Frames of a megabyte that wait to be written, over all connections of a node: with more, each connection gets its next
/// answer only when it has read all others.
pub const FRAMES_IN_USE_MAX: usize = 256;
/// Frames, of a megabyte at most, that the client keeps for nodes which ask the same a little later.
pub const CLIENT_FRAMES_KEPT_MAX: usize = 16;
/// Bytes of answers which wait to be written to a connection when its next request is answered.
pub const ANSWERS_AHEAD_BYTES: usize = RUN_BYTES_MAX;
/// Whole indexes, as `ciruela.v1` has them, that are sent at the same time, over all connections of a node.
pub const WHOLE_INDEXES_SENT_MAX: usize = 4;
