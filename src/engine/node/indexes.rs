//! Who waits for which index, and what becomes of one that came.

use std::sync::Arc;

use super::{Effect, IndexProblem, Node};
use crate::engine::contract::Outbox;
use crate::engine::{deploy, fetch};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::time::Now;
use crate::model::vpath::VPath;

impl Node {
    pub(super) fn cancel_index(&mut self, now: Now, path: &VPath, image: ImageId, outbox: &mut Outbox<Effect>) {
        let Some(waiters) = self.index_waiters.get_mut(&image) else { return };
        waiters.remove(path);
        if waiters.is_empty() {
            self.index_waiters.remove(&image);
            self.fetch(now, fetch::Input::DropIndex { image }, outbox);
        }
    }

    pub(super) fn index_loaded(
        &mut self,
        now: Now,
        image: ImageId,
        index: Option<Arc<Image>>,
        outbox: &mut Outbox<Effect>,
    ) {
        match index {
            Some(index) => self.index_known(now, image, &index, outbox),
            None if self.index_waiters.contains_key(&image) => {
                for path in self.index_waiters.get(&image).cloned().unwrap_or_default() {
                    self.seek(now, &path, outbox);
                }
                self.fetch(now, fetch::Input::WantIndex { image }, outbox);
            }
            None => {}
        }
    }

    fn index_known(&mut self, now: Now, image: ImageId, index: &Arc<Image>, outbox: &mut Outbox<Effect>) {
        for path in self.index_waiters.remove(&image).unwrap_or_default() {
            self.deploy(now, deploy::Input::Index { path, id: image, image: index.clone() }, outbox);
        }
    }

    pub(super) fn index_checked(
        &mut self,
        now: Now,
        image: ImageId,
        result: Result<Arc<Image>, IndexProblem>,
        outbox: &mut Outbox<Effect>,
    ) {
        let genuine = match &result {
            Err(IndexProblem::Lie(reason)) => Err(reason.clone()),
            Ok(_) | Err(IndexProblem::Unusable(_) | IndexProblem::NotStored(_)) => Ok(()),
        };
        self.fetch(now, fetch::Input::IndexChecked { image, genuine }, outbox);
        match result {
            Ok(index) => self.index_known(now, image, &index, outbox),
            Err(IndexProblem::Lie(_)) => {}
            Err(IndexProblem::Unusable(reason)) => {
                for path in self.index_waiters.remove(&image).unwrap_or_default() {
                    self.deploy(now, deploy::Input::Unusable { path, id: image, reason: reason.clone() }, outbox);
                }
            }
            Err(IndexProblem::NotStored(failure)) => {
                for path in self.index_waiters.remove(&image).unwrap_or_default() {
                    let failure = failure.clone();
                    self.deploy(now, deploy::Input::FetchFailed { path, failure }, outbox);
                }
            }
        }
    }
}
