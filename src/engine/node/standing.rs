//! How the change that holds at a path fares on this node.

use super::Node;
use crate::format::report::Standing;
use crate::format::wire::Progress;
use crate::model::change::{Change, Verb};
use crate::model::failure::FailureKind;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::origins::{self, Origins, Supply};
use crate::model::vpath::VPath;

impl Node {
    /// How the change that holds at the path fares here.
    pub(super) fn standing(&self, path: &VPath) -> Option<(ChangeId, Standing)> {
        let (change, _) = self.heads.change(path)?;
        if let Some(status) = self.deploys.status(path).filter(|status| status.change == change && !status.reported) {
            let occupied = status.failure.as_ref().filter(|failure| failure.kind == FailureKind::Occupied);
            let standing = Standing {
                state: status.step.to_owned(),
                result: occupied.map(|failure| failure.kind.name().to_owned()),
                reason: occupied.map(|failure| failure.text.clone()),
                waiting: self.waiting(path, &status),
                bytes_done: status.bytes_done + self.fetches.bytes_fetched(path).unwrap_or(0),
                bytes_total: status.bytes_total,
                ..Standing::default()
            };
            return Some((change, standing));
        }
        if self.heads.is_deleted(path) {
            return Some((change, self.standing_of_delete(path)));
        }
        if let Some(gone) = self.gone(path) {
            return Some((change, Standing::ended("cleaned", Some(gone.reason().to_owned()), Origins::default())));
        }
        let committed = self.heads.committed_at(path)?;
        if let Some(standing) = self.conflict(path) {
            return Some((change, Standing::ended("conflict", Some(conflict(standing)), Origins::default())));
        }
        if !self.heads.is_committed(path) || self.heals(path) {
            return None;
        }
        let (result, bytes) =
            if committed.change == change { ("done", committed.bytes) } else { ("already", Origins::default()) };
        let sources = self.sources(path, result);
        Some((change, Standing { state: "done".to_owned(), sources, ..Standing::ended(result, None, bytes) }))
    }

    /// From where what has ended like that came.
    pub(super) fn sources(&self, path: &VPath, result: &str) -> Vec<Supply> {
        let found = self.heads.origin(path).filter(|_| result == "done");
        found.map(|found| origins::folded(&found.sources)).unwrap_or_default()
    }

    /// The image that stays visible in an append-only directory although another one should be there.
    pub(super) fn conflict(&self, path: &VPath) -> Option<ImageId> {
        let visible = self.heads.committed_at(path)?.image;
        self.heads.change(path).filter(|(_, head)| head.change.verb == Verb::Append)?;
        let append_only = self.config.serves(path)?.append_only;
        let idle = self.deploys.status(path).is_none_or(|status| status.reported);
        (append_only && idle && !self.heads.is_committed(path)).then_some(visible)
    }

    /// Why a change lost against the one that holds at the path.
    pub(super) fn why_superseded(&self, path: &VPath) -> String {
        let head = self.heads.change(path).map(|(_, signed)| &signed.change);
        if head.is_some_and(Change::deletes) {
            return "a change which removes it took its place".to_owned();
        }
        let append_only = self.config.serves(path).is_some_and(|directory| directory.append_only);
        let which = if append_only && !head.is_some_and(Change::overrides) { "an older" } else { "a newer" };
        format!("{which} change took its place")
    }

    pub(super) fn progress(&self, path: &VPath) -> Option<Progress> {
        if let Some((change, signed)) = self.heads.change(path).filter(|(_, signed)| signed.change.deletes()) {
            let Standing { state, waiting, .. } = self.standing_of_delete(path);
            let (path, host, image) = (path.clone(), self.host.clone(), signed.change.subject()?);
            return Some(Progress { path, image, change, host, state, bytes_done: 0, bytes_total: 0, waiting });
        }
        let status = self.deploys.status(path).filter(|status| !status.reported)?;
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

/// Why a change isn't made visible.
pub(super) fn conflict(standing: ImageId) -> String {
    format!("image {standing} is visible, and in an append-only directory it stays")
}
