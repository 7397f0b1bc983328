//! What a machine answers to requests for content: from its disk, right or wrong.

use bytes::Bytes;
use ciruela::driver::disk::place::Place;
use ciruela::driver::disk::read::{Tree, read_run};
use ciruela::engine::node::{ServedTree, Serving};
use ciruela::format::index;
use ciruela::format::wire::{Message, Response};
use ciruela::model::directory::DirectoryConfig;
use ciruela::model::ids::ImageId;
use ciruela::model::limits;
use ciruela::model::run::Run;
use ciruela::model::vpath::VPath;

use super::client::spoil;
use super::machine::{Machine, Running};
use crate::disk::power::Random;

impl Machine {
    /// The answer to a request; `None` if the machine is down.
    pub(super) fn serve(&self, id: u64, what: &Serving, random: &mut Random) -> Option<Message> {
        let running = self.running.as_ref()?;
        let lies = random.below(1_000) < self.lies_permille;
        let response = self.answer(running, what, lies).unwrap_or_else(Response::Error);
        Some(Message::Response { id, response })
    }

    fn answer(&self, running: &Running, what: &Serving, lies: bool) -> Result<Response, String> {
        let missing = |image: ImageId| format!("no index of image {image} here");
        let index = |image| running.indexes.load(image).map_err(|error| error.to_string());
        Ok(match what {
            Serving::Index { image } => Response::GetIndex { data: index(*image)?.map(Bytes::from) },
            Serving::IndexAt { image, hosts } => {
                Response::GetIndexAt { data: index(*image)?.map(Bytes::from), hosts: hosts.clone() }
            }
            Serving::IndexPart { image, offset } => {
                let part = running.indexes.load_part(*image, *offset, limits::INDEX_PART_BYTES_MAX);
                let (part, total) = part.map_err(|error| error.to_string())?.ok_or_else(|| missing(*image))?;
                Response::GetIndexPart { data: spoil(part, lies).into(), total }
            }
            Serving::Run { image, directory, path, tree, run } => {
                let read = |tree| self.read(running, *image, (directory, path, tree), *run);
                // What is staged may have been made visible since it was asked for.
                let data = match tree {
                    ServedTree::Visible(_) => read(Tree::Visible)?,
                    ServedTree::Staged | ServedTree::Damaged(_) => {
                        read(Tree::Staged).or_else(|_| read(Tree::Visible))?
                    }
                    ServedTree::Stored => read(Tree::Stored).or_else(|_| read(Tree::Visible))?,
                };
                Response::GetBlocks { data: spoil(data, lies).into() }
            }
            Serving::Block { hash, .. } => return Err(format!("nobody asks for single blocks, but for {hash}")),
        })
    }

    fn read(
        &self,
        running: &Running,
        image: ImageId,
        (directory, path, tree): (&DirectoryConfig, &VPath, Tree),
        run: Run,
    ) -> Result<Vec<u8>, String> {
        let text = running.indexes.load(image).map_err(|error| error.to_string())?.ok_or("no index")?;
        let image = index::parse_for(image, &text).map_err(|error| error.to_string())?;
        let place = Place::new(directory, path).map_err(|failure| failure.to_string())?;
        let mut data = vec![0; run.bytes(&image).ok_or("no such run")?];
        let bad = read_run(&self.fs, (&place, tree), &image, run, &mut data).map_err(|failure| failure.to_string())?;
        if bad.is_empty() { Ok(data) } else { Err(format!("blocks {bad:?} are not here")) }
    }
}
