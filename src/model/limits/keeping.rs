//! What a node does with what it has: retention, removals, cached indexes, scrubs and the commands for them.

use std::time::Duration;

/// Directories that clean are looked at at least this often: links and keep lists change without a word.
pub const RETENTION_INTERVAL: Duration = Duration::from_hours(1);
/// And after this time when something stood in the way.
pub const RETENTION_RETRY_PAUSE: Duration = Duration::from_mins(1);

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
