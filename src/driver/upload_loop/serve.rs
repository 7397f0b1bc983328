//! Gives nodes what they ask for: indexes, and blocks read on a few threads straight into what is sent.
//!
//! Several nodes usually ask for the same blocks at about the same time: what was read for one of them is sent to the others,
//! too.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Answer;
use crate::driver::frames::{FramePool, RecentRuns};
use crate::driver::image_reader::{ImageReader, ReadError};
use crate::driver::pool::{Full, Job, Pool};
use crate::driver::ws::{ConnectionHandle, Outgoing, SendError};
use crate::format::index::IndexText;
use crate::format::wire::{DataResponse, Message, Request, Response, data_response_head};
use crate::model::ids::{BlockHash, ImageId};
use crate::model::limits;
use crate::model::run::Run;

/// A scanned directory.
#[derive(Debug)]
pub struct Source {
    /// The image's id.
    pub id: ImageId,
    /// The index text.
    pub index: IndexText,
    /// Where its blocks come from.
    pub reader: ImageReader,
}

/// All sources, and the threads that read them.
pub(super) struct Shop {
    stock: Arc<Stock>,
    pool: Pool,
    closed: Arc<AtomicBool>,
    answers: mpsc::Sender<Answer>,
}

/// What the threads share.
struct Stock {
    sources: BTreeMap<ImageId, Source>,
    frames: FramePool,
    recent: RecentRuns,
}

/// Why a request gets no content.
enum Refusal {
    /// It asks for what isn't here.
    Request(String),
    /// The source isn't what it was.
    Lost { image: ImageId, reason: String },
}

impl Shop {
    /// Starts the threads, one for each core.
    pub(super) fn open(sources: Vec<Source>, answers: mpsc::Sender<Answer>) -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(limits::SCAN_THREADS_MAX);
        let sources = sources.into_iter().map(|source| (source.id, source)).collect();
        let pool = Pool::new("read", threads, limits::DISK_JOBS_QUEUED_MAX)?;
        let recent = RecentRuns::new(limits::CLIENT_RECENT_BYTES_MAX);
        let stock = Stock { sources, frames: FramePool::default(), recent };
        Ok(Self { stock: Arc::new(stock), pool, closed: Arc::new(AtomicBool::new(false)), answers })
    }

    /// Has the request answered, through the connection.
    pub(super) fn serve(&self, handle: &ConnectionHandle, id: u64, request: Request) {
        let (stock, closed, answers) = (Arc::clone(&self.stock), Arc::clone(&self.closed), self.answers.clone());
        let to = handle.clone();
        let job: Job = Box::new(move || {
            if closed.load(Ordering::Relaxed) {
                return;
            }
            match stock.answer(&request) {
                Ok((response, data)) => {
                    let frame = data_response_head(response, id, data.len()).into();
                    deliver(&to, id, Outgoing::Encoded { frame, data, is_response: true });
                }
                Err(Refusal::Request(text)) => refuse(&to, id, text),
                Err(Refusal::Lost { image, reason }) => {
                    refuse(&to, id, reason.clone());
                    // Without a loop there is nobody to be told.
                    let _ = answers.blocking_send(Answer::NotServed { connection: to.id, image, reason });
                }
            }
        });
        if let Err(Full(_)) = self.pool.submit(job) {
            refuse(handle, id, "too many requests at once".to_owned());
        }
    }

    /// What isn't begun will not be.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// Answers a request with an error.
pub(super) fn refuse(to: &ConnectionHandle, id: u64, text: String) {
    deliver(to, id, Outgoing::Message(Message::Response { id, response: Response::Error(text) }));
}

fn deliver(to: &ConnectionHandle, id: u64, outgoing: Outgoing) {
    match to.try_send(outgoing) {
        Ok(()) | Err(SendError::Closed(_)) => {}
        Err(error @ SendError::TooLong { .. }) => refuse(to, id, format!("the answer can't be sent: {error}")),
        Err(_) => {
            let _ = to.try_send(Outgoing::Close("you don't read what you asked for".to_owned()));
        }
    }
}

impl Stock {
    fn answer(&self, request: &Request) -> Result<(DataResponse, Bytes), Refusal> {
        let source = |image: &ImageId| {
            self.sources.get(image).ok_or_else(|| Refusal::Request(format!("image {image} is not published from here")))
        };
        match request {
            Request::GetIndexPart { id: image, offset } => {
                let index = &source(image)?.index;
                let total = index.len();
                if *offset >= total {
                    let text = format!("offset {offset} is beyond the index, which has {total} bytes");
                    return Err(Refusal::Request(text));
                }
                let part = index.part(*offset, limits::INDEX_PART_BYTES_MAX);
                Ok((DataResponse::GetIndexPart { total }, part.into()))
            }
            Request::GetIndex { id: image, .. } => Ok((DataResponse::GetIndex, source(image)?.index.to_vec().into())),
            Request::GetBlocks { image, run } => Ok((DataResponse::GetBlocks, self.blocks(source(image)?, *run)?)),
            Request::GetBlock { hash, .. } => Ok((DataResponse::GetBlock, self.block(hash)?)),
            Request::AppendDir(_)
            | Request::ReplaceDir(_)
            | Request::SubmitChange(_)
            | Request::Plan(_)
            | Request::Node(_)
            | Request::GetIndexAt { .. } => {
                let text =
                    format!("a client answers no {}: it only gives what it publishes", request.request_type().name());
                Err(Refusal::Request(text))
            }
        }
    }

    fn blocks(&self, source: &Source, run: Run) -> Result<Bytes, Refusal> {
        let refusal = |error: ReadError| match error {
            ReadError::OutOfRange(_) => Refusal::Request(error.to_string()),
            ReadError::Root { .. } | ReadError::Io { .. } | ReadError::Changed { .. } => {
                Refusal::Lost { image: source.id, reason: error.to_string() }
            }
        };
        let image = source.reader.image();
        let bytes = run.bytes(image).ok_or(ReadError::OutOfRange(run)).map_err(refusal)?;
        let (kind, hashes) = (image.hash_kind(), image.block_hashes(run.first, u64::from(run.count)));
        if let Some(data) = self.recent.find(kind, hashes, bytes, &self.frames) {
            return Ok(data);
        }
        let mut data = self.frames.empty(bytes);
        source.reader.read_into(run, &mut data).map_err(refusal)?;
        let data = self.frames.finish(data);
        self.recent.keep(kind, hashes, &data);
        Ok(data)
    }

    /// One block by its hash, whichever image it is in.
    fn block(&self, hash: &BlockHash) -> Result<Bytes, Refusal> {
        let found = self.sources.values().find_map(|source| Some((source, source.reader.find_block(hash)?)));
        let (source, first) =
            found.ok_or_else(|| Refusal::Request(format!("block {hash} is not published from here")))?;
        self.blocks(source, Run { first, count: 1 })
    }
}
