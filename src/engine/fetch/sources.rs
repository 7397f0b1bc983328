//! Who offers what, and how well it answers.

use std::collections::BTreeMap;

use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::time::Time;

/// The connections that offered each image.
#[derive(Debug, Default)]
pub(super) struct Sources {
    by_image: BTreeMap<ImageId, BTreeMap<ConnectionId, Source>>,
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
}

/// A source is asked this much before it has shown how fast it answers.
const FIRST_WINDOW: usize = 4;

impl Sources {
    pub(super) fn offered(&mut self, now: Time, connection: ConnectionId, version: ProtocolVersion, image: ImageId) {
        let sources = self.by_image.entry(image).or_default();
        sources.insert(connection, Source { version, heard: now, window: FIRST_WINDOW, dropped: false });
    }

    pub(super) fn gone(&mut self, connection: ConnectionId) {
        self.by_image.retain(|_, sources| {
            sources.remove(&connection);
            !sources.is_empty()
        });
    }

    /// Says whether it was usable until now.
    pub(super) fn drop_for(&mut self, image: ImageId, connection: ConnectionId) -> bool {
        let source = self.by_image.get_mut(&image).and_then(|sources| sources.get_mut(&connection));
        source.is_some_and(|source| !std::mem::replace(&mut source.dropped, true))
    }

    pub(super) fn usable(&self, image: ImageId) -> impl Iterator<Item = (ConnectionId, ProtocolVersion)> {
        let sources = self.by_image.get(&image).into_iter().flatten();
        sources
            .filter(|(_, source)| !source.dropped)
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
