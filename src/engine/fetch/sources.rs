//! Who offers what, and how well it answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::time::Time;

/// The connections that offered each image.
#[derive(Debug, Default)]
pub(super) struct Sources {
    by_image: BTreeMap<ImageId, BTreeMap<ConnectionId, Source>>,
    /// The same the other way round: many connections may come and go.
    by_connection: BTreeMap<ConnectionId, BTreeSet<ImageId>>,
}

#[derive(Debug)]
struct Source {
    version: ProtocolVersion,
    /// When it last answered anything about this image, or offered it.
    heard: Time,
    /// Questions it may have unanswered.
    window: usize,
    /// It lied, failed or fell silent.
    dropped: bool,
    /// A change that it submitted, signed by an accepted key, wants this image here.
    vouched: bool,
}

/// A source is asked this much before it has shown how fast it answers.
const FIRST_WINDOW: usize = 4;

impl Sources {
    /// Offering again changes nothing: who was dropped stays so, and who is silent gains no time. Gives the connections
    /// which are not to be asked any more, because one is there now that signed.
    pub(super) fn offered(
        &mut self,
        now: Time,
        connection: ConnectionId,
        version: ProtocolVersion,
        image: ImageId,
        vouched: bool,
    ) -> Vec<ConnectionId> {
        let fresh = Source { version, heard: now, window: FIRST_WINDOW, dropped: false, vouched: false };
        self.by_connection.entry(connection).or_default().insert(image);
        let source = self.by_image.entry(image).or_default().entry(connection).or_insert(fresh);
        if source.vouched || !vouched {
            return Vec::new();
        }
        source.vouched = true;
        let strangers = self.by_image.get(&image).into_iter().flatten().filter(|(_, source)| !source.vouched);
        strangers.map(|(connection, _)| *connection).collect()
    }

    pub(super) fn gone(&mut self, connection: ConnectionId) {
        for image in self.by_connection.remove(&connection).unwrap_or_default() {
            let Some(sources) = self.by_image.get_mut(&image) else { continue };
            sources.remove(&connection);
            if sources.is_empty() {
                self.by_image.remove(&image);
            }
        }
    }

    /// Says whether it was usable until now.
    pub(super) fn drop_for(&mut self, image: ImageId, connection: ConnectionId) -> bool {
        let source = self.by_image.get_mut(&image).and_then(|sources| sources.get_mut(&connection));
        source.is_some_and(|source| !std::mem::replace(&mut source.dropped, true))
    }

    /// Whom to ask. Those without a key only if there is nobody else: anyone may connect, offer and then say nothing.
    pub(super) fn usable(&self, image: ImageId) -> impl Iterator<Item = (ConnectionId, ProtocolVersion)> {
        let usable = || self.by_image.get(&image).into_iter().flatten().filter(|(_, source)| !source.dropped);
        let any_vouched = usable().any(|(_, source)| source.vouched);
        usable()
            .filter(move |(_, source)| source.vouched || !any_vouched)
            .map(|(connection, source)| (*connection, source.version))
            .take(limits::SOURCES_MAX)
    }

    pub(super) fn window(&self, image: ImageId, connection: ConnectionId) -> usize {
        let Some(source) = self.by_image.get(&image).and_then(|sources| sources.get(&connection)) else { return 0 };
        match source.version {
            ProtocolVersion::V1 => limits::BLOCKS_IN_FLIGHT_V1_MAX,
            ProtocolVersion::V2 => source.window,
        }
    }

    pub(super) fn heard(&self, image: ImageId, connection: ConnectionId) -> Time {
        self.by_image
            .get(&image)
            .and_then(|sources| sources.get(&connection))
            .map_or(Time::default(), |source| source.heard)
    }

    /// A quick answer widens the window, a slow one narrows it.
    pub(super) fn answered(&mut self, now: Time, image: ImageId, connection: ConnectionId, asked: Time) {
        let Some(source) = self.by_image.get_mut(&image).and_then(|sources| sources.get_mut(&connection)) else {
            return;
        };
        source.heard = now;
        let took = now.since(asked);
        if took <= limits::SOURCE_ANSWER_QUICK {
            source.window = (source.window + 1).min(limits::RUNS_IN_FLIGHT_MAX);
        } else if took > limits::SOURCE_ANSWER_QUICK * 4 {
            source.window = (source.window - 1).max(1);
        }
    }
}
