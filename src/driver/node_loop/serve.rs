//! Answers requests for content: cached indexes, and blocks of visible trees, each checked before it is sent.

use bytes::Bytes;

use super::hands::Shared;
use crate::driver::disk::fs::FileSystem;
use crate::driver::disk::place::Place;
use crate::driver::disk::read::{self, Tree};
use crate::driver::ws::{ConnectionHandle, Outgoing};
use crate::engine::node::{Input, Serving};
use crate::format::wire::{DataResponse, Message, Response, data_response_header};
use crate::model::directory::DirectoryConfig;
use crate::model::ids::{BlockHash, ImageId};
use crate::model::limits;
use crate::model::reuse::Damage;
use crate::model::run::Run;
use crate::model::vpath::VPath;

/// Reads and queues the answer; whatever goes wrong becomes an error response.
pub(super) fn serve<F: FileSystem + Clone>(shared: &Shared<F>, handle: &ConnectionHandle, request: u64, what: Serving) {
    match answer(shared, request, what) {
        Ok(outgoing) => deliver(handle, outgoing),
        Err(text) => refuse(handle, request, text),
    }
}

/// Answers a request with an error.
pub(super) fn refuse(handle: &ConnectionHandle, request: u64, text: String) {
    deliver(handle, Outgoing::Message(Message::Response { id: request, response: Response::Error(text) }));
}

fn deliver(handle: &ConnectionHandle, outgoing: Outgoing) {
    if let Err(error) = handle.try_send(outgoing) {
        tracing::debug!(peer = %handle.peer, "an answer is not sent: {error}");
        let _ = handle.try_send(Outgoing::Close("you don't read what you asked for".to_owned()));
    }
}

fn answer<F: FileSystem + Clone>(shared: &Shared<F>, request: u64, what: Serving) -> Result<Outgoing, String> {
    let index = |image| shared.indexes.load(image).map_err(|error| error.to_string());
    let frame = match what {
        Serving::Index { image } => {
            let data = index(image)?.ok_or_else(|| format!("no index of image {image} here"))?;
            data_frame(DataResponse::GetIndex, request, &data)
        }
        Serving::IndexPart { image, offset } => {
            let part = shared.indexes.load_part(image, offset, limits::INDEX_PART_BYTES_MAX);
            let (part, total) =
                part.map_err(|error| error.to_string())?.ok_or_else(|| format!("no index of image {image} here"))?;
            if part.is_empty() {
                return Err(format!("offset {offset} is beyond the index of {total} bytes"));
            }
            data_frame(DataResponse::GetIndexPart { total }, request, &part)
        }
        Serving::IndexAt { image, hosts } => {
            let data = index(image)?.map(Bytes::from);
            let response = Response::GetIndexAt { data, hosts };
            return Ok(Outgoing::Message(Message::Response { id: request, response }));
        }
        Serving::Block { image, directory, path, hash, file, offset } => {
            block(shared, request, image, &directory, &path, hash, &file, offset)?
        }
        Serving::Run { image, directory, path, run, staged: false } => {
            run_frame(shared, request, image, (&directory, &path, Tree::Visible), run)?
        }
        // It may have been made visible since it was asked for.
        Serving::Run { image, directory, path, run, staged: true } => {
            run_frame(shared, request, image, (&directory, &path, Tree::Staged), run)
                .or_else(|_| run_frame(shared, request, image, (&directory, &path, Tree::Visible), run))?
        }
    };
    Ok(Outgoing::Encoded { frame: shared.frames.finish(frame), is_response: true })
}

fn data_frame(response: DataResponse, request: u64, data: &[u8]) -> Vec<u8> {
    let mut frame = data_response_header(response, request, data.len());
    frame.extend_from_slice(data);
    frame
}

#[expect(clippy::too_many_arguments, reason = "the parts of one request")]
fn block<F: FileSystem + Clone>(
    shared: &Shared<F>,
    request: u64,
    image: ImageId,
    directory: &DirectoryConfig,
    path: &VPath,
    hash: BlockHash,
    file: &str,
    offset: u64,
) -> Result<Vec<u8>, String> {
    let missing = || format!("no block {hash} at the hinted place");
    let known = shared.image(image)?.ok_or_else(missing)?;
    let found = known.file(file).ok_or_else(missing)?;
    let number = found.first_block + offset / limits::BLOCK_BYTES as u64;
    let belongs = offset < found.size && offset.is_multiple_of(limits::BLOCK_BYTES as u64);
    let at = usize::try_from(number).map_err(|_| missing())?;
    if !belongs || known.hashes().get(at) != Some(&hash) {
        return Err(missing());
    }
    let len = known.place(number).ok_or_else(missing)?.len;
    let mut frame = data_response_header(DataResponse::GetBlock, request, len);
    read_into(shared, (directory, path, Tree::Visible), &known, Run { first: number, count: 1 }, &mut frame)?;
    Ok(frame)
}

fn run_frame<F: FileSystem + Clone>(
    shared: &Shared<F>,
    request: u64,
    image: ImageId,
    tree: (&DirectoryConfig, &VPath, Tree),
    run: Run,
) -> Result<Vec<u8>, String> {
    let known = shared.image(image)?.ok_or_else(|| format!("no index of image {image} here"))?;
    let bytes =
        run.bytes(&known).ok_or_else(|| "these blocks are not in the image, or too many for one request".to_owned())?;
    let mut frame = shared.frames.begin(DataResponse::GetBlocks, request, bytes);
    read_into(shared, tree, &known, run, &mut frame)?;
    Ok(frame)
}

fn read_into<F: FileSystem + Clone>(
    shared: &Shared<F>,
    (directory, path, tree): (&DirectoryConfig, &VPath, Tree),
    image: &crate::model::image::Image,
    run: Run,
    frame: &mut Vec<u8>,
) -> Result<(), String> {
    let place = Place::new(directory, path).map_err(|failure| failure.to_string())?;
    let bad = read::read_run(&shared.fs, (&place, tree), image, run, frame).map_err(|failure| failure.to_string())?;
    match bad.first() {
        None => Ok(()),
        Some(block) if tree == Tree::Staged => Err(format!("block {block} is not here yet")),
        Some(block) => {
            if let (Some(place_in), Ok(Some(found))) = (image.place(*block), read::look(&shared.fs, &place)) {
                let (path, file) = (path.clone(), place_in.directory.join(place_in.name).into());
                let what = format!("was changed on this node: block {block} doesn't fit its hash").into();
                shared.answer(Input::Damaged(Damage { path, root: found.identity, file, what }));
            }
            Err(format!("block {block} is damaged on this node"))
        }
    }
}
