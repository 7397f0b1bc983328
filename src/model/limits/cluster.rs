//! What nodes are to each other: gossip, reports, catch-up, their connections and names.

use std::time::Duration;

use super::{MESSAGE_BYTES_MAX, PATH_BYTES_MAX};

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

/// A connection to another node must be made, and both must know each other, within this time.
pub const NODE_LINK_TIMEOUT: Duration = Duration::from_secs(15);

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
