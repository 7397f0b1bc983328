//! What others may read here: cached indexes, and blocks of visible trees.
//!
//! A hint only says where to look: it is used if this node itself made that path visible, and what is read is checked
//! against the hash before it is sent.

use std::sync::Arc;

use super::{Effect, Node};
use crate::engine::contract::Outbox;
use crate::format::wire::{BlockHint, Hosts, Response};
use crate::model::directory::DirectoryConfig;
use crate::model::ids::{BlockHash, ImageId};
use crate::model::peer::ConnectionId;
use crate::model::run::Run;
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
    Block { image: ImageId, directory: Arc<DirectoryConfig>, path: VPath, hash: BlockHash, file: String, offset: u64 },
    /// A run of blocks of a visible tree, or of one that is (or just was) `staged`.
    Run { image: ImageId, directory: Arc<DirectoryConfig>, path: VPath, run: Run, staged: bool },
}

impl Node {
    /// This host alone: whoever answers for a path.
    pub(super) fn this_host(&self) -> Hosts {
        Hosts::from([(self.host.machine_id, self.host.hostname.clone())])
    }

    fn serve(&mut self, connection: ConnectionId, request: u64, what: Serving, outbox: &mut Outbox<Effect>) {
        if self.connections.begin_serving(connection) {
            outbox.push(Effect::Serve { connection, request, what });
        } else {
            self.respond(connection, request, Response::Error("too many requests at once".to_owned()), outbox);
        }
    }

    pub(super) fn serve_index(
        &mut self,
        connection: ConnectionId,
        request: u64,
        image: ImageId,
        outbox: &mut Outbox<Effect>,
    ) {
        self.serve(connection, request, Serving::Index { image }, outbox);
    }

    pub(super) fn serve_index_part(
        &mut self,
        connection: ConnectionId,
        request: u64,
        image: ImageId,
        offset: u64,
        outbox: &mut Outbox<Effect>,
    ) {
        self.serve(connection, request, Serving::IndexPart { image, offset }, outbox);
    }

    pub(super) fn serve_index_at(
        &mut self,
        connection: ConnectionId,
        request: u64,
        path: &VPath,
        outbox: &mut Outbox<Effect>,
    ) {
        match self.heads.committed_at(path) {
            Some(committed) => self.serve(
                connection,
                request,
                Serving::IndexAt { image: committed.image, hosts: self.this_host() },
                outbox,
            ),
            None => {
                let response = Response::GetIndexAt { data: None, hosts: Hosts::new() };
                self.respond(connection, request, response, outbox);
            }
        }
    }

    pub(super) fn serve_block(
        &mut self,
        connection: ConnectionId,
        request: u64,
        hash: BlockHash,
        hint: Option<BlockHint>,
        outbox: &mut Outbox<Effect>,
    ) {
        let what = hint.and_then(|hint| {
            let path = hint.path;
            let directory = self.config.directory_of(&path)?.clone();
            let image = self.heads.committed_at(&path)?.image;
            let file = hint.file.trim_start_matches('/').to_owned();
            Some(Serving::Block { image, directory, path, hash, file, offset: hint.offset })
        });
        match what {
            Some(what) => self.serve(connection, request, what, outbox),
            None => self.respond(connection, request, Response::GetBlock { data: None }, outbox),
        }
    }

    pub(super) fn serve_run(
        &mut self,
        connection: ConnectionId,
        request: u64,
        image: ImageId,
        run: Run,
        outbox: &mut Outbox<Effect>,
    ) {
        // Also of a tree that is being staged: its blocks that were verified are there.
        let path = self.heads.path_of(image).or_else(|| self.neighbours.path_of(image)).cloned();
        let what = path.and_then(|path| {
            let directory = self.config.directory_of(&path)?.clone();
            let staged = !self.heads.shows(&path, image);
            Some(Serving::Run { image, directory, path, run, staged })
        });
        match what {
            Some(what) => self.serve(connection, request, what, outbox),
            None => {
                let text = "this node doesn't have the image".to_owned();
                self.respond(connection, request, Response::Error(text), outbox);
            }
        }
    }
}
