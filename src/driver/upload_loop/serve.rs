//! Gives nodes what they ask for: indexes, and blocks read on a few threads straight into the frames that carry them.
//!
//! Several nodes usually ask for the same blocks at about the same time: a frame that was made for one of them is sent to
//! the others as it is, if they gave their requests the same number. Otherwise it is read again, from the system's cache.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Answer;
use crate::driver::frames::FramePool;
use crate::driver::image_reader::{ImageReader, ReadError};
use crate::driver::pool::{Full, Job, Pool};
use crate::driver::ws::{ConnectionHandle, Outgoing, SendError};
use crate::format::index::IndexText;
use crate::format::wire::{DataResponse, Message, Request, Response, data_response_header};
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
    recent: Mutex<VecDeque<Recent>>,
}

/// A frame that was made lately. Nodes which began together ask the same with the same number, so one frame does for all.
struct Recent {
    image: ImageId,
    run: Run,
    response: DataResponse,
    id: u64,
    frame: Bytes,
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
        let stock = Stock { sources, frames: FramePool::default(), recent: Mutex::default() };
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
            match stock.answer(id, &request) {
                Ok(frame) => deliver(&to, id, Outgoing::Encoded { frame, data: Bytes::new(), is_response: true }),
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
    fn answer(&self, id: u64, request: &Request) -> Result<Bytes, Refusal> {
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
                Ok(frame(DataResponse::GetIndexPart { total }, id, &part))
            }
            Request::GetIndex { id: image, .. } => {
                Ok(frame(DataResponse::GetIndex, id, &source(image)?.index.to_vec()))
            }
            Request::GetBlocks { image, run } => self.blocks(source(image)?, DataResponse::GetBlocks, id, *run),
            Request::GetBlock { hash, .. } => self.block(id, hash),
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

    fn blocks(&self, source: &Source, response: DataResponse, id: u64, run: Run) -> Result<Bytes, Refusal> {
        let refusal = |error: ReadError| match error {
            ReadError::OutOfRange(_) => Refusal::Request(error.to_string()),
            ReadError::Root { .. } | ReadError::Io { .. } | ReadError::Changed { .. } => {
                Refusal::Lost { image: source.id, reason: error.to_string() }
            }
        };
        let bytes = run.bytes(source.reader.image()).ok_or(ReadError::OutOfRange(run)).map_err(refusal)?;
        if let Some(frame) = self.made_lately(source.id, response, id, run) {
            return Ok(frame);
        }
        let mut frame = self.frames.begin(response, id, bytes);
        source.reader.read_into(run, &mut frame).map_err(refusal)?;
        let frame = self.frames.finish(frame);
        let mut recent = self.recent();
        recent.push_front(Recent { image: source.id, run, response, id, frame: frame.clone() });
        recent.truncate(limits::CLIENT_FRAMES_KEPT_MAX);
        Ok(frame)
    }

    fn made_lately(&self, image: ImageId, response: DataResponse, id: u64, run: Run) -> Option<Bytes> {
        let same =
            |recent: &&Recent| (recent.image, recent.response, recent.id, recent.run) == (image, response, id, run);
        self.recent().iter().find(same).map(|recent| recent.frame.clone())
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Recent>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One block by its hash, whichever image it is in.
    fn block(&self, id: u64, hash: &BlockHash) -> Result<Bytes, Refusal> {
        let found = self.sources.values().find_map(|source| Some((source, source.reader.find_block(hash)?)));
        let (source, first) =
            found.ok_or_else(|| Refusal::Request(format!("block {hash} is not published from here")))?;
        self.blocks(source, DataResponse::GetBlock, id, Run { first, count: 1 })
    }
}

fn frame(response: DataResponse, id: u64, data: &[u8]) -> Bytes {
    let mut frame = data_response_header(response, id, data.len());
    frame.extend_from_slice(data);
    frame.into()
}
