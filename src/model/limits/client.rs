//! The client, the demo, plans, and pages for people.

use std::time::Duration;

/// Members that a client is told of which asked a node without the directory.
pub const REDIRECTS_MAX: usize = 8;

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
