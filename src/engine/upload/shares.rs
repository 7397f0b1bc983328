//! Which node should ask the client for which pieces: all of them together for each piece once (003-10).

use std::net::SocketAddr;

use super::peer::{Link, Stage};
use super::{Effect, Uploads};
use crate::engine::contract::Outbox;
use crate::format::wire::{Message, Notice, Notification};
use crate::model::ids::ImageId;
use crate::model::peer::ConnectionId;

impl Uploads {
    /// Tells the nodes their shares where somebody came or went.
    pub(super) fn share_out(&mut self, outbox: &mut Outbox<Effect>) {
        let images: Vec<_> =
            self.intents.iter().filter(|intent| intent.upload.given).map(|intent| intent.upload.image).collect();
        for image in images {
            let now = self.sharers(image);
            let before = self.shares.get(&image).map(Vec::as_slice).unwrap_or_default();
            if now == before {
                continue;
            }
            let of = u32::try_from(now.len()).unwrap_or(u32::MAX);
            for (index, (_, connection)) in (0..of).zip(&now) {
                let share = Notice::Share { image, index, of };
                let message = Message::Notification(Notification::Cluster(share));
                outbox.push(Effect::Send { connection: *connection, message });
            }
            self.shares.insert(image, now);
        }
    }

    /// Connected nodes that took an image. One that is done keeps its share, because it has it; one that was done before
    /// gets none.
    fn sharers(&self, image: ImageId) -> Vec<(SocketAddr, ConnectionId)> {
        let before = self.shares.get(&image).map(Vec::as_slice).unwrap_or_default();
        let takes = |stage: &Stage, had_one: bool| match stage {
            Stage::Accepted { .. } => true,
            Stage::Ended(outcome) => had_one && outcome.result == "done",
            Stage::Unsent
            | Stage::Asked { .. }
            | Stage::NotHere
            | Stage::Kept(_)
            | Stage::Refused(_)
            | Stage::NotServed { .. } => false,
        };
        let sharer = |peer: &super::peer::Peer| {
            let Link::Up { connection } = peer.link else { return None };
            let had_one = before.contains(&(peer.address, connection));
            let mut stages = self.intents.iter().zip(&peer.stages);
            let one = stages.any(|(intent, stage)| intent.upload.image == image && takes(stage, had_one));
            one.then_some((peer.address, connection))
        };
        self.peers.values().filter_map(sharer).collect()
    }
}
