//! Deployments: what is asked of whom, how long an answer may take, what is told of it.

use std::time::Duration;

use super::SEND_QUEUE_BYTES_MAX;

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

/// Progress notifications to one watcher are at least this far apart.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Ends on other nodes are told a watcher in messages that are this far apart for each member of the cluster: some at once.
pub const ENDS_INTERVAL_PER_MEMBER: Duration = Duration::from_micros(100);
/// More members don't make it longer.
pub const ENDS_INTERVAL_MAX: Duration = Duration::from_millis(10);

/// The lowest bound on a rate, bytes per second: with less, a request would take longer than anybody waits.
pub const RATE_MIN: u64 = 64_000;
/// Members that a node chooses for an image that it deploys. Others choose it, too, so that it has about twice as many.
pub const NEIGHBOURS_CHOSEN: usize = 5;
/// How often a node looks whether an image has enough of them.
pub const NEIGHBOURS_INTERVAL: Duration = Duration::from_secs(5);
/// When one of them fails, the next is chosen this much later.
pub const NEIGHBOURS_PAUSE: Duration = Duration::from_millis(200);

/// Changes that are watched, by others here, or by clients of this node.
pub const WATCHES_MAX: usize = 4_096;
/// Nodes that watch one change: a client is connected to a few.
pub const WATCHERS_MAX: usize = 64;

/// Directories and nodes of which is told how much of a deployment came from there.
pub const SOURCES_TOLD_MAX: usize = 16;
/// Sources of each way that a report names; the others are one.
pub const SUPPLIES_NAMED_MAX: usize = 2;
/// Sources in one report.
pub const SUPPLIES_MAX: usize = 16;
/// Bytes of a source's name in a report; longer ones are cut.
pub const SUPPLIER_BYTES_MAX: usize = 128;
