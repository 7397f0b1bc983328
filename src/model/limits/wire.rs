//! Messages, and the connections that carry them.

use std::time::Duration;

use super::{DEPLOYS_ACTIVE_MAX, RUN_BYTES_MAX, RUNS_IN_FLIGHT_MAX};

/// Bytes of one WebSocket message in `ciruela.v2`, received or sent.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// Bytes of one message from a `ciruela.v1` client, whose index comes in one piece.
pub const MESSAGE_V1_BYTES_MAX: usize = 256 << 20;
/// Nesting of CBOR that is received.
pub const CBOR_DEPTH_MAX: usize = 16;
/// Signatures on one change.
pub const SIGNATURES_MAX: usize = 32;

/// Pieces in one message that says which were completed.
pub const HAVE_PIECES_MAX: usize = 4_096;
/// Nodes of which one message tells a client.
pub const NODES_PER_MESSAGE_MAX: usize = 256;

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

/// Hosts that it takes to have all connections of a node: one alone may have no more than this part of them.
pub const HOSTS_TO_FILL_CONNECTIONS: usize = 4;
/// Connections that one host may have, however few there are.
pub const CONNECTIONS_PER_HOST_MIN: usize = 16;
/// Of so many connections, one is kept for the addresses of peers.
pub const CONNECTIONS_TO_KEEP_ONE_FOR_PEERS: usize = 10;
/// Who has not sent one message after that time is disconnected when places are scarce.
pub const UNSPOKEN_TIMEOUT: Duration = Duration::from_mins(1);

/// A connection that says nothing and has nothing to do is closed.
pub const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// How often a side shows that it is alive, and looks whether the other is.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// The same of a client that publishes: after [`DOWN_AFTER`](super::DOWN_AFTER) without a sign of life it goes elsewhere.
pub const IMPATIENT_PING_INTERVAL: Duration = Duration::from_secs(2);
/// Bytes of a ping or a pong, masked, with its header.
pub const PING_BYTES_MAX: u64 = 16;
/// Saying goodbye takes no longer.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A handshake takes no longer.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Buffers of a megabyte that are kept for the next frames.
pub const FRAMES_POOLED_MAX: usize = 12;
/// Frames of a megabyte that wait to be written, over all connections of a node: with more, each connection gets its next
/// answer only when it has read all others.
pub const FRAMES_IN_USE_MAX: usize = 256;
/// Bytes of blocks stored last that a node keeps at hand for others, and the number of their runs.
pub const RECENT_BYTES_MAX: usize = 8 << 20;
pub const RECENT_RUNS_MAX: usize = 256;
/// Bytes of blocks read last that the client keeps for nodes which ask the same a little later.
pub const CLIENT_RECENT_BYTES_MAX: usize = 16 << 20;
/// Bytes of answers which wait to be written to a connection when its next request is answered.
pub const ANSWERS_AHEAD_BYTES: usize = RUN_BYTES_MAX;
/// Whole indexes, as `ciruela.v1` has them, that are sent at the same time, over all connections of a node.
pub const WHOLE_INDEXES_SENT_MAX: usize = 4;
