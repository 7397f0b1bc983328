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
/// Of the indexes that are being fetched, one at a time may have more bytes than that: until its hash is compared, it is only
/// somebody's word that it is one.
pub const INDEX_LARGE_BYTES: usize = 64 << 20;
/// Threads that one scan uses at most.
pub const SCAN_THREADS_MAX: usize = 64;
/// Bytes that a scanning thread reads before it hashes them: the size of its buffer.
pub const SCAN_BATCH_BYTES: usize = 512 << 10;
/// Blocks that a scanning thread hashes at once; small files have small blocks.
pub const SCAN_BATCH_BLOCKS_MAX: usize = 256;
/// Bytes, of one file or many, that a scanning thread takes on at once: larger files are shared between threads.
pub const SCAN_CLAIM_BYTES: u64 = 4 << 20;
/// Bytes of files below which a scan keeps nothing for the next one: they are hashed in some milliseconds.
pub const SCAN_CACHE_WORTH_BYTES: u64 = 4 << 20;
/// Directories of which the hashes of files are kept between scans.
pub const SCAN_CACHE_FILES_MAX: usize = 64;
/// Bytes of all that is kept between scans.
pub const SCAN_CACHE_BYTES_MAX: u64 = 1 << 30;
/// A file that was changed so shortly before a scan could change once more and keep its times: file systems count in up to two seconds.
pub const SCAN_CACHE_RACY_SECONDS: u64 = 2;
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
/// Bytes of the answers to ranges of heads in one message, but for the first answer, which takes no more than this alone.
pub const HEAD_ANSWERS_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;
const _: () = assert!(HEAD_RANGES_MAX * (2 * PATH_BYTES_MAX + 48) <= HEAD_ANSWERS_BYTES_MAX);
const _: () = assert!(HEADS_PER_RANGE_MAX * (PATH_BYTES_MAX + 48) <= HEAD_ANSWERS_BYTES_MAX);
/// Heads in one chunk of the index of a directory's heads.
pub const HEADS_PER_CHUNK_MAX: usize = 256;
/// Sessions of catch-up that one node has open at once, each for another directory.
pub const CATCH_UP_SESSIONS_MAX: usize = 4;
/// Nodes that differ in one directory and are remembered until a session with them can begin.
pub const CATCH_UP_CANDIDATES_MAX: usize = 8;
/// Ranges which differ and are still to be looked at, in one session: an honest node with millions of heads gives fewer.
pub const CATCH_UP_RANGES_MAX: usize = 65_536;
/// A node that doesn't answer a question of catch-up for so long is left; making the connection is within it.
pub const CATCH_UP_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A session of catch-up takes no longer; what was exchanged by then stays, and another session goes on.
pub const CATCH_UP_SESSION_TIMEOUT: Duration = Duration::from_mins(10);
/// First pause before catch-up goes again to a node with which it changed nothing; it doubles up to [`CATCH_UP_PAUSE_MAX`].
pub const CATCH_UP_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause before catch-up goes again to a node with which it changed nothing.
pub const CATCH_UP_PAUSE_MAX: Duration = Duration::from_mins(5);
/// Nodes, in one directory, for which such a pause is remembered.
pub const CATCH_UP_PAUSES_MAX: usize = 1_024;
/// Changes, found to be of no use here, that are remembered so that they aren't taken again.
pub const CHANGES_WITHDRAWN_MAX: usize = 4_096;
/// Bytes of the reason with which one is remembered.
pub const WITHDRAWN_REASON_BYTES_MAX: usize = 512;
/// Bytes of a report's body: it goes in one datagram.
pub const REPORT_BYTES_MAX: usize = 1_000;
/// Bytes of each longer text in a report.
pub const REPORT_TEXT_BYTES_MAX: usize = 384;
/// Reports in which only numbers of bytes changed are at least this far apart.
pub const REPORT_PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// Changes that are watched, by others here, or by clients of this node.
pub const WATCHES_MAX: usize = 4_096;
/// Nodes that watch one change: a client is connected to a few.
pub const WATCHERS_MAX: usize = 64;
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
/// Ends on other nodes are told a watcher in messages that are at least this far apart.
pub const ENDS_INTERVAL: Duration = Duration::from_millis(10);
/// A connection that says nothing and has nothing to do is closed.
pub const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// How often a side shows that it is alive, and looks whether the other is.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// The same of a client that publishes: after [`DOWN_AFTER`] without a sign of life it goes elsewhere.
pub const IMPATIENT_PING_INTERVAL: Duration = Duration::from_secs(2);
/// Bytes of a ping or a pong, masked, with its header.
pub const PING_BYTES_MAX: u64 = 16;
/// Saying goodbye takes no longer.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The lowest bound on a rate, bytes per second: with less, a request would take longer than anybody waits.
pub const RATE_MIN: u64 = 64_000;
/// Members that a node chooses for an image that it deploys. Others choose it, too, so that it has about twice as many.
pub const NEIGHBOURS_CHOSEN: usize = 5;
/// How often a node looks whether an image has enough of them.
pub const NEIGHBOURS_INTERVAL: Duration = Duration::from_secs(5);
/// When one of them fails, the next is chosen this much later.
pub const NEIGHBOURS_PAUSE: Duration = Duration::from_millis(200);
/// A connection to another node must be made, and both must know each other, within this time.
pub const NODE_LINK_TIMEOUT: Duration = Duration::from_secs(15);
/// Members that a client is told of which asked a node without the directory.
pub const REDIRECTS_MAX: usize = 8;
/// Connections to nodes that are being made at once.
pub const NODE_DIALS_MAX: usize = 64;
/// A connection between nodes which nobody needs is closed after this time.
pub const NODE_LINK_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the names in `peers.txt` are looked up again.
pub const PEERS_INTERVAL: Duration = Duration::from_mins(1);
/// And after a look-up that failed.
pub const PEERS_RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Names looked up at once.
pub const NAME_LOOKUPS_MAX: usize = 16;
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

/// Bytes of a status page.
pub const STATUS_PAGE_BYTES_MAX: usize = 32 << 20;
/// A status page takes no longer.
pub const PAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Nodes which `ciruela status` asks at the same time.
pub const STATUS_ASKED_AT_ONCE_MAX: usize = 16;
/// Deployments in progress which `ciruela status` lists for people.
pub const STATUS_DEPLOYS_SHOWN_MAX: usize = 100;

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
/// Nodes which a client that has lost its nodes tries to reach, of those that it was only told of.
pub const STAND_INS_MAX: usize = 32;
/// Connections that the client loses, or fails to make, to one node without getting anything from it between.
pub const DOWNLOAD_TRIES_MAX: u32 = 5;
/// Runs of blocks that a node can't give before a client which reads from it asks it no more.
pub const DOWNLOAD_REFUSALS_MAX: usize = 512;
/// A client that reads asks another node, too, for blocks that didn't come within this time.
pub const DOWNLOAD_HEDGE_AFTER: Duration = Duration::from_secs(5);
/// How often the client looks whether it is sending something.
pub const SENDING_SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
/// From an upload that was sent in less time no rate can be told.
pub const SENDING_MEASURED_MIN: Duration = Duration::from_millis(500);
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
pub const DEMO_CONNECTIONS_MAX: u32 = 100;
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

/// Bytes of a datagram, seal included, UDP's and IP's headers not.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;
/// Datagrams received that wait for the daemon's loop; further ones are lost.
pub const DATAGRAMS_QUEUED_MAX: usize = 1_024;
/// Bytes of a packet of the SWIM library; what is left of the datagram always has room for a part of a value.
pub const SWIM_BYTES_MAX: usize = 900;
/// Bytes of a part of a value.
pub const VALUE_PART_BYTES: usize = 300;
/// Parts of one value.
pub const VALUE_PARTS_MAX: usize = 64;
/// Bytes of one value of a node: directories beyond aren't told.
pub const VALUE_BYTES_MAX: usize = VALUE_PART_BYTES * VALUE_PARTS_MAX;
const _: () = assert!(PATH_BYTES_MAX + 64 <= VALUE_BYTES_MAX);
/// Values of one node of which some parts have come.
pub const VALUES_PARTIAL_MAX: usize = 8;
/// Parts of values, of all nodes, that are passed on at the same time.
pub const FLOOD_PARTS_MAX: usize = 16_384;
/// How often parts and news of members are passed on, to three members each time, as long as there are some.
pub const FLOOD_INTERVAL: Duration = Duration::from_millis(200);
/// Directories in one pulse; when there are more, they take turns.
pub const PULSE_HEADS_MAX: usize = 40;
/// How often a node tells another one how its heads are.
pub const PULSE_INTERVAL: Duration = Duration::from_secs(1);
/// That somebody sends datagrams which can't be opened is told at most so often.
pub const STRANGERS_TOLD_INTERVAL: Duration = Duration::from_mins(10);
/// When none of the peers has answered for so long, that is told.
pub const ALONE_TOLD_AFTER: Duration = Duration::from_secs(15);
/// Members that are told at once when a head has changed.
pub const URGENT_PULSES: usize = 3;
/// Heads that change within this time are told together.
pub const URGENT_PULSE_PAUSE: Duration = Duration::from_millis(50);
/// Reports that wait for their acknowledgement.
pub const REPORTS_PENDING_MAX: usize = 16_384;
/// First pause before a report is sent again; it doubles up to [`REPORT_PAUSE_MAX`].
pub const REPORT_PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause before a report is sent again.
pub const REPORT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Members, those that are down included, which a node remembers.
pub const MEMBERS_MAX: usize = 65_536;
/// Addresses of peers, looked up.
pub const PEER_ADDRESSES_MAX: usize = 65_536;
/// How often a random member is probed.
pub const PROBE_PERIOD: Duration = Duration::from_secs(1);
/// A member that doesn't answer a probe within this time is asked by way of three others.
pub const PROBE_ANSWER_TIMEOUT: Duration = Duration::from_millis(400);
/// How long a member that is down is remembered.
pub const DOWN_REMEMBERED: Duration = Duration::from_hours(24);
/// First pause before a node that knows no member calls again; it doubles up to [`ANNOUNCE_PAUSE_MAX`].
pub const ANNOUNCE_PAUSE_MIN: Duration = Duration::from_millis(500);
/// How often, at least, a node calls peers which it doesn't know as members, and members that are down.
pub const ANNOUNCE_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Addresses called at once.
pub const ANNOUNCED_AT_ONCE: usize = 3;
/// How often a node asks a member for all members.
pub const MEMBERS_FETCH_INTERVAL: Duration = Duration::from_mins(10);
/// First pause before another member is asked for all members; it doubles up to [`MEMBERS_FETCH_INTERVAL`].
pub const MEMBERS_FETCH_PAUSE_MIN: Duration = Duration::from_secs(1);
/// A member that was asked for all members and has not given them all within this time won't.
pub const MEMBERS_FETCH_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes of a page of members.
pub const PAGE_BYTES_MAX: usize = 256 << 10;
/// Bytes of one member's values in a page.
pub const PAGE_MEMBER_BYTES_MAX: usize = 64 << 10;
/// Members that a node asks for their values in one interval of pulses.
pub const ASKED_AT_ONCE: usize = 3;
/// A member's values are asked for when they haven't come for this long.
pub const ASK_AFTER: Duration = Duration::from_secs(2);
/// Datagrams with values in answer to one question.
pub const VALUE_DATAGRAMS_MAX: usize = 8;
/// Members that are told at once that a node leaves.
pub const LEAVE_DATAGRAMS: usize = 8;
/// Senders of datagrams, one for each of their starts, whose last datagrams are remembered.
pub const SESSIONS_MAX: usize = 65_536;
/// A datagram is taken while the clocks of sender and receiver are at most this far apart.
pub const DATAGRAM_AGE_MAX: Duration = Duration::from_mins(10);
/// Two live nodes with one machine id are told of after this time: one of them may be about to be found dead.
pub const TWIN_AFTER: Duration = Duration::from_mins(1);
/// Members that are told of news at once, or asked to probe another one.
pub const GOSSIP_FANOUT: usize = 3;
/// How often a node passes news on in the smallest clusters; once more for each doubling.
pub const TRANSMISSIONS_MIN: u8 = 4;
/// How long a member that doesn't answer may refute that it is dead, in the smallest clusters.
pub const SUSPICION_MIN: Duration = Duration::from_secs(4);
/// How long it may, for each doubling of the cluster.
pub const SUSPICION_PER_DOUBLING: Duration = Duration::from_millis(1_200);

/// Directories that clean are looked at at least this often: links and keep lists change without a word.
pub const RETENTION_INTERVAL: Duration = Duration::from_hours(1);
/// And after this time when something stood in the way.
pub const RETENTION_RETRY_PAUSE: Duration = Duration::from_mins(1);
/// Plans that a node works on at once, of all clients; each keeps an index in memory.
pub const PLANS_MAX: usize = 2;
/// Bytes of an index which a node takes for a plan.
pub const PLAN_INDEX_BYTES_MAX: usize = 64 << 20;
/// How long a plan may take on a node.
pub const PLAN_DURATION_MAX: Duration = Duration::from_mins(2);
/// Nodes that `ciruela plan` asks at once.
pub const PLANS_ASKED_AT_ONCE_MAX: usize = 4;
/// Nodes that `ciruela plan` asks in all.
pub const PLAN_NODES_MAX: usize = 64;
/// Signed removals that use the disk at once, per node.
pub const REMOVALS_ACTIVE_MAX: usize = 4;
/// Bytes of a keep list.
pub const KEEP_LIST_BYTES_MAX: usize = 8 << 20;
/// Entries of a config's directory, and of those between it and the managed ones, which are looked at for links.
pub const LINKS_LOOKED_AT_MAX: usize = 1_000_000;
/// How often a node looks which cached indexes are needed.
pub const INDEX_SWEEP_INTERVAL: Duration = Duration::from_hours(1);
/// A cached index goes when nothing has needed it for this long.
pub const INDEX_UNNEEDED_KEPT: Duration = Duration::from_hours(1);
/// Cached indexes that are removed at once; the others follow.
pub const INDEXES_REMOVED_AT_ONCE_MAX: usize = 1_024;
/// Paths in use in one config.
pub const ACTIVE_PATHS_MAX: usize = 200_000;

/// Files of which is remembered that they have a certain content.
pub const SOURCES_PER_FILE_MAX: usize = 4;
/// Files looked up at once: as long, nobody else uses the state database.
pub const FILES_LOOKED_UP_MAX: usize = 1_024;
/// Committed directories, besides the one that is replaced, which are searched for blocks of a new image.
pub const SIBLINGS_MAX: usize = 4;
/// Directories and nodes of which is told how much of a deployment came from there.
pub const SOURCES_TOLD_MAX: usize = 16;
/// Sources of each way that a report names; the others are one.
pub const SUPPLIES_NAMED_MAX: usize = 2;
/// Sources in one report.
pub const SUPPLIES_MAX: usize = 16;
/// Bytes of a source's name in a report; longer ones are cut.
pub const SUPPLIER_BYTES_MAX: usize = 128;

/// Bytes per second that a scrub reads by itself, unless `scrub-rate` says otherwise.
pub const SCRUB_RATE: u64 = 20_000_000;
/// An entry of a directory counts as so many bytes, for that.
pub const SCRUB_ENTRY_BYTES: u64 = 4_096;
/// Shortest `scrub-interval`.
pub const SCRUB_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Longest `scrub-interval`: ten years.
pub const SCRUB_INTERVAL_MAX: Duration = Duration::from_hours(10 * 365 * 24);
/// Bytes which one step of a scrub reads: then others get their turn on the disk.
pub const SCRUB_STEP_BYTES_MAX: u64 = 8 << 20;
/// Entries which it looks at.
pub const SCRUB_STEP_ENTRIES_MAX: u64 = 1_000;
/// Entries of one directory that its image doesn't have which are named.
pub const SCRUB_EXTRAS_LISTED_MAX: usize = 1_000;
/// Findings of one scrub of one directory that are logged.
pub const SCRUB_FINDINGS_LOGGED_MAX: u64 = 20;
/// A scrub that found a deployment under way, or failed, is tried again after this time, or after its interval if that is shorter.
pub const SCRUB_RETRY_PAUSE: Duration = Duration::from_mins(10);
/// The wall clock, by which scrubs are due, is looked at at least so often.
pub const SCRUB_LOOK_INTERVAL: Duration = Duration::from_hours(1);
/// Commands to scrub that are carried out at the same time, by turns.
pub const SCRUB_COMMANDS_MAX: usize = 4;
/// Connections to the daemon's control socket.
pub const CONTROL_CONNECTIONS_MAX: usize = 8;
/// Bytes of a request on it.
pub const CONTROL_REQUEST_BYTES_MAX: usize = 16 << 10;
/// Who connects to it must have sent its request, and read each line of the answer, within this time.
pub const CONTROL_TIMEOUT: Duration = Duration::from_mins(1);
/// Steps of an answer that wait to be written to it.
pub const CONTROL_NEWS_QUEUED_MAX: usize = 16;
