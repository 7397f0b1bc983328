//! One address of the cluster: its connection, and how each upload fares there.

use std::net::SocketAddr;
use std::time::Duration;

use super::Event;
use crate::format::wire::{Outcome, Progress};
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::{ConnectionId, Host};
use crate::model::time::Time;

/// A node as the client sees it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) link: Link,
    /// Known since its first `Hello`.
    pub(super) host: Option<Host>,
    /// One per upload.
    pub(super) stages: Vec<Stage>,
    last_request: u64,
}

/// The connection.
#[derive(Debug)]
pub(super) enum Link {
    /// An attempt is under way; the fields are those of the failures before it.
    Connecting { attempts: u32, since: Option<Time>, down: bool },
    /// Connected.
    Up { connection: ConnectionId },
    /// Not connected.
    Down { attempts: u32, since: Time, retry: Option<Time>, reason: String, down: bool },
}

/// How an upload fares at a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// To be submitted (again).
    Unsent,
    /// Waits for the verdict.
    Asked { request: u64 },
    /// Registered; waits for the outcome.
    Accepted { progress: Option<Progress> },
    /// The node doesn't carry the directory.
    NotHere,
    /// `--append-weak`, and another image is there.
    Kept { current: Option<ImageId> },
    /// No.
    Refused { word: String, detail: String, keys: Vec<String>, current: Option<ImageId> },
    /// Done or given up, as the node told.
    Ended(Outcome),
}

impl Stage {
    /// Whether nothing more is to come.
    pub(super) const fn is_final(&self) -> bool {
        match self {
            Self::Unsent | Self::Asked { .. } | Self::Accepted { .. } => false,
            Self::NotHere | Self::Kept { .. } | Self::Refused { .. } | Self::Ended(_) => true,
        }
    }
}

impl Peer {
    pub(super) fn new(address: SocketAddr, uploads: usize) -> Self {
        let link = Link::Connecting { attempts: 0, since: None, down: false };
        Self { address, link, host: None, stages: vec![Stage::Unsent; uploads], last_request: 0 }
    }

    pub(super) fn next_request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    pub(super) fn reached(&mut self, host: Host) {
        self.host = Some(host);
    }

    /// Failed attempts since it was last connected.
    pub(super) fn attempts(&self) -> u32 {
        match self.link {
            Link::Connecting { attempts, .. } | Link::Down { attempts, .. } => attempts,
            Link::Up { .. } => 0,
        }
    }

    pub(super) fn failing_since(&self) -> Option<Time> {
        match self.link {
            Link::Connecting { since, .. } => since,
            Link::Down { since, .. } => Some(since),
            Link::Up { .. } => None,
        }
    }

    /// Whether it has been unreachable for long enough to be called down.
    pub(super) fn is_down(&self) -> bool {
        match self.link {
            Link::Connecting { down, .. } | Link::Down { down, .. } => down,
            Link::Up { .. } => false,
        }
    }

    pub(super) fn retry_at(&self) -> Option<Time> {
        match self.link {
            Link::Down { retry, .. } => retry,
            Link::Connecting { .. } | Link::Up { .. } => None,
        }
    }

    /// Why it isn't connected.
    pub(super) fn trouble(&self) -> Option<&str> {
        match &self.link {
            Link::Down { reason, .. } => Some(reason),
            Link::Connecting { .. } | Link::Up { .. } => None,
        }
    }

    /// An attempt failed, or the connection broke: what isn't final will be submitted again.
    pub(super) fn failed(&mut self, now: Time, reason: &str) {
        let attempts = self.attempts() + 1;
        let since = self.failing_since().unwrap_or(now);
        let pause = limits::RECONNECT_PAUSE_MIN * 2_u32.saturating_pow(attempts - 1).min(1_000);
        let down = attempts >= limits::DOWN_AFTER_ATTEMPTS && now.since(since) >= limits::DOWN_AFTER;
        let retry = Some(now + pause.min(limits::RECONNECT_PAUSE_MAX));
        self.link = Link::Down { attempts, since, retry, reason: reason.to_owned(), down };
        for stage in self.stages.iter_mut().filter(|stage| !stage.is_final()) {
            *stage = Stage::Unsent;
        }
    }

    /// It will never do.
    pub(super) fn give_up(&mut self, reason: &str) {
        let (attempts, since) = (self.attempts() + 1, Time::new(Duration::ZERO));
        self.link = Link::Down { attempts, since, retry: None, reason: reason.to_owned(), down: true };
    }

    pub(super) fn unreachable(&self, reason: &str) -> Event {
        let (address, host, reason) = (self.address, self.host.clone(), reason.to_owned());
        Event::Unreachable { address, host, reason, down: self.is_down() }
    }
}
