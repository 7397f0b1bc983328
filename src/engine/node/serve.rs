//! What others may read here: cached indexes, and blocks of visible trees.
//!
//! A hint only says where to look: it is used if this node itself made that path visible, and what is read is checked
//! against the hash before it is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use super::heads::Committed;
use super::{Effect, Node};
use crate::engine::contract::Outbox;
use crate::engine::pace::Pace;
use crate::format::wire::{BlockHint, Hosts, Response};
use crate::model::directory::DirectoryConfig;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::{BlockHash, ImageId};
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::run::Run;
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// What is to be read for a request.
#[derive(Debug, Clone)]
pub enum Serving {
    /// A whole index. The answer says so if it isn't cached.
    Index { image: ImageId },
    /// A part of an index.
    IndexPart { image: ImageId, offset: u64 },
    /// A whole index, asked for by path; with the answer goes the name of this host.
    IndexAt { image: ImageId, hosts: Hosts },
    /// One block, from a file of a visible tree.
    Block {
        image: ImageId,
        directory: Arc<DirectoryConfig>,
        path: VPath,
        /// Of the tree.
        root: FileIdentity,
        hash: BlockHash,
        file: String,
        offset: u64,
    },
    /// A run of blocks.
    Run { image: ImageId, directory: Arc<DirectoryConfig>, path: VPath, tree: ServedTree, run: Run },
}

/// Which tree has what is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedTree {
    /// The visible one, with this root.
    Visible(FileIdentity),
    /// The same, with which something is known to be wrong: what is staged there anew comes first.
    Damaged(FileIdentity),
    /// The one that is being staged, or just was, or else the visible one.
    Staged,
    /// The same; all that is to be read was checked when it was stored there.
    Stored,
}

/// Content that others asked for and that isn't being read yet: it waits for its turn when the rate is bounded. Each
/// connection's share is bounded as its requests are.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    pub(super) pace: Pace,
    waiting: VecDeque<Asked>,
    next: Time,
}

/// A request for content.
#[derive(Debug)]
struct Asked {
    connection: ConnectionId,
    request: u64,
    what: Serving,
}

impl Uploads {
    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        (!self.waiting.is_empty()).then_some((self.next, "serve: the rate allows more"))
    }
}

impl Serving {
    /// Of content, at most.
    const fn bytes(&self) -> u64 {
        match self {
            Self::Index { .. } | Self::IndexAt { .. } => 0,
            Self::IndexPart { .. } => limits::INDEX_PART_BYTES_MAX as u64,
            Self::Block { .. } => limits::BLOCK_BYTES as u64,
            // More than that is refused.
            Self::Run { run, .. } if run.count > limits::RUN_BLOCKS_MAX => 0,
            Self::Run { run, .. } => run.count as u64 * limits::BLOCK_BYTES as u64,
        }
    }
}

impl Node {
    /// This host alone: whoever answers for a path.
    pub(super) fn this_host(&self) -> Hosts {
        Hosts::from([(self.host.machine_id, self.host.hostname.clone())])
    }

    fn serve(&mut self, now: Now, asked: Asked, outbox: &mut Outbox<Effect>) {
        if self.connections.begin_serving(asked.connection) {
            self.uploads.waiting.push_back(asked);
            self.serve_waiting(now, outbox);
        } else {
            let text = "too many requests at once".to_owned();
            self.respond(asked.connection, asked.request, Response::Error(text), outbox);
        }
    }

    /// Serves what was asked for, in order, as fast as the configuration allows.
    pub(super) fn serve_waiting(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        while let Some(asked) = self.uploads.waiting.front() {
            if let Err(next) = self.uploads.pace.take(now.time, asked.what.bytes()) {
                self.uploads.next = next;
                return;
            }
            if let Some(Asked { connection, request, what }) = self.uploads.waiting.pop_front() {
                outbox.push(Effect::Serve { connection, request, what });
            }
        }
    }

    pub(super) fn serve_index(
        &mut self,
        now: Now,
        connection: ConnectionId,
        request: u64,
        image: ImageId,
        outbox: &mut Outbox<Effect>,
    ) {
        self.serve(now, Asked { connection, request, what: Serving::Index { image } }, outbox);
    }

    pub(super) fn serve_index_part(
        &mut self,
        now: Now,
        connection: ConnectionId,
        request: u64,
        image: ImageId,
        offset: u64,
        outbox: &mut Outbox<Effect>,
    ) {
        self.serve(now, Asked { connection, request, what: Serving::IndexPart { image, offset } }, outbox);
    }

    pub(super) fn serve_index_at(
        &mut self,
        now: Now,
        connection: ConnectionId,
        request: u64,
        path: &VPath,
        outbox: &mut Outbox<Effect>,
    ) {
        match self.heads.committed_at(path) {
            Some(committed) => {
                let what = Serving::IndexAt { image: committed.image, hosts: self.this_host() };
                self.serve(now, Asked { connection, request, what }, outbox);
            }
            None => {
                let response = Response::GetIndexAt { data: None, hosts: Hosts::new() };
                self.respond(connection, request, response, outbox);
            }
        }
    }

    pub(super) fn serve_block(
        &mut self,
        now: Now,
        connection: ConnectionId,
        request: u64,
        hash: BlockHash,
        hint: Option<BlockHint>,
        outbox: &mut Outbox<Effect>,
    ) {
        let what = hint.and_then(|hint| {
            let path = hint.path;
            let directory = self.config.directory_of(&path)?.clone();
            let Committed { image, root, .. } = self.heads.committed_at(&path)?;
            let file = hint.file.trim_start_matches('/').to_owned();
            Some(Serving::Block { image, directory, path, root, hash, file, offset: hint.offset })
        });
        match what {
            Some(what) => self.serve(now, Asked { connection, request, what }, outbox),
            None => self.respond(connection, request, Response::GetBlock { data: None }, outbox),
        }
    }

    pub(super) fn serve_run(
        &mut self,
        now: Now,
        connection: ConnectionId,
        request: u64,
        image: ImageId,
        run: Run,
        outbox: &mut Outbox<Effect>,
    ) {
        // Also of a tree that is being staged: its blocks that were verified are there.
        // What is damaged may be right where it is asked for.
        let path = self.heads.whole_at(image).or_else(|| self.neighbours.path_of(image));
        let path = path.or_else(|| self.heads.path_of(image)).cloned();
        let what = path.and_then(|path| {
            let directory = self.config.directory_of(&path)?.clone();
            let visible = self.heads.committed_at(&path).filter(|committed| committed.image == image);
            let tree = match visible {
                Some(committed) if !self.heads.is_damaged(&path) => ServedTree::Visible(committed.root),
                Some(_) | None if self.fetches.has_run(&path, run) => ServedTree::Stored,
                Some(committed) => ServedTree::Damaged(committed.root),
                None => ServedTree::Staged,
            };
            Some(Serving::Run { image, directory, path, tree, run })
        });
        match what {
            Some(what) => self.serve(now, Asked { connection, request, what }, outbox),
            None => {
                let text = "this node doesn't have the image".to_owned();
                self.respond(connection, request, Response::Error(text), outbox);
            }
        }
    }
}
