//! Who waits to hear how changes end, and when to tell them how far they are.

use std::collections::{BTreeMap, BTreeSet};

use super::connections::notify;
use super::{Effect, Node};
use crate::engine::contract::Outbox;
use crate::format::wire::{ImageEvent, Notification, Outcome, Progress};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// Followers of paths, and paths whose progress was not told yet.
#[derive(Debug, Default)]
pub(super) struct Watch {
    followers: BTreeMap<ConnectionId, BTreeSet<VPath>>,
    touched: BTreeSet<VPath>,
    /// Not before this time again.
    next: Time,
}

impl Watch {
    /// The connection wants to hear of the path from now on.
    pub(super) fn follow(&mut self, connection: ConnectionId, path: &VPath) {
        self.followers.entry(connection).or_default().insert(path.clone());
    }

    pub(super) fn gone(&mut self, connection: ConnectionId) {
        self.followers.remove(&connection);
    }

    /// Something changed at the path.
    pub(super) fn touch(&mut self, path: &VPath) {
        if self.followers.values().any(|paths| paths.contains(path)) {
            self.touched.insert(path.clone());
        }
    }

    fn of(&self, path: &VPath) -> impl Iterator<Item = ConnectionId> {
        self.followers.iter().filter(|(_, paths)| paths.contains(path)).map(|(connection, _)| *connection)
    }

    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        (!self.touched.is_empty()).then_some((self.next, "watch: tell progress"))
    }
}

impl Node {
    /// Tells everyone who waits for it how a change ended here.
    #[expect(clippy::too_many_arguments, reason = "the parts of one message")]
    pub(super) fn outcome(
        &mut self,
        path: &VPath,
        change: ChangeId,
        image: ImageId,
        result: &'static str,
        reason: Option<&str>,
        (bytes_reused, bytes_fetched): (u64, u64),
        outbox: &mut Outbox<Effect>,
    ) {
        self.watch.touched.remove(path);
        let watchers: BTreeSet<_> = self.watch.of(path).chain(self.connections.publishers(image)).collect();
        for connection in watchers {
            let Some(version) = self.connections.version(connection) else { continue };
            let (host, path) = (self.host.clone(), path.clone());
            let notification = match version {
                ProtocolVersion::V2 => Notification::Outcome(Outcome {
                    path,
                    image: Some(image),
                    change,
                    host,
                    result: result.to_owned(),
                    reason: reason.map(str::to_owned),
                    bytes_reused,
                    bytes_fetched,
                }),
                ProtocolVersion::V1 => {
                    let event = ImageEvent { id: image, path, host, forwarded: false };
                    match reason {
                        None => Notification::ReceivedImage(event),
                        Some(reason) => Notification::AbortedImage { event, reason: reason.to_owned() },
                    }
                }
            };
            notify(connection, notification, outbox);
        }
    }

    /// Tells followers how far the touched paths are, if it is time.
    pub(super) fn report_progress(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.watch.touched.is_empty() || now.time < self.watch.next {
            return;
        }
        self.watch.next = now.time + limits::PROGRESS_INTERVAL;
        for path in std::mem::take(&mut self.watch.touched) {
            let Some(progress) = self.progress(&path) else { continue };
            let followers: Vec<_> = self.watch.of(&path).collect();
            for connection in followers {
                if self.connections.version(connection) == Some(ProtocolVersion::V2) {
                    notify(connection, Notification::Progress(progress.clone()), outbox);
                }
            }
        }
    }

    fn progress(&self, path: &VPath) -> Option<Progress> {
        let status = self.deploys.status(path)?;
        Some(Progress {
            path: path.clone(),
            image: status.image,
            change: status.change,
            host: self.host.clone(),
            bytes_done: status.bytes_done + self.fetches.bytes_fetched(path).unwrap_or(0),
            bytes_total: status.bytes_total,
            waiting: self.waiting(path, &status),
            state: status.step.to_owned(),
        })
    }
}
