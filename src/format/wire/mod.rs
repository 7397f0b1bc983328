//! WebSocket messages ↔ CBOR: `ciruela.v1` as published, and `ciruela.v2`, which contains it. `doc/protocol.md` has both.
//!
//! Each binary WebSocket message is `[0, type, params]` (notification), `[1, type, id, params]` (request),
//! `[2, type, id, params]` (response) or `[2, "Error", id, text]`. Who may say what and when is left to the engines, moving
//! the bytes to `driver/ws`.

mod cluster;
mod decode;
mod encode;
mod message;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub use cluster::{NodeReport, NodeRequest, NodeResponse, Nodes, Notice, Proof, ProposalVerdict};
pub use decode::decode;
pub use encode::{DataResponse, data_response_head, encode};
pub use message::{
    BlockHint, ChangeAnswer, Hello, Hosts, ImageEvent, Message, Notification, Outcome, PlanAnswer, Progress,
    PublishedChange, Request, RequestType, Response, SubmitAnswer, VerdictWord,
};

use super::cbor::CborError;
use super::change::ChangeError;
use crate::model::vpath::VPathError;

/// Why a frame isn't a message. What is wrong in a request alone is [`Message::Malformed`] instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not the CBOR that is expected.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A field that the message must have.
    #[error("no {0:?}")]
    Missing(&'static str),
    /// The same field twice.
    #[error("{0:?} is there twice")]
    Repeated(&'static str),
    /// Neither notification, request nor response.
    #[error("unknown kind of message {0}")]
    UnknownKind(u64),
    /// A request or response which this version doesn't have.
    #[error("unknown type {0:?}")]
    UnknownType(String),
    /// A word where only some are allowed.
    #[error("unknown {what} {word:?}")]
    UnknownWord { what: &'static str, word: String },
    /// A virtual path which nobody may have.
    #[error(transparent)]
    Path(#[from] VPathError),
    /// The change in a `SubmitChange`.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A run of no blocks, or one that ends beyond the last possible number.
    #[error("a run of blocks that can't be")]
    BadRun,
    /// [`Message::Malformed`] and [`Message::Unknown`] exist only in what was received.
    #[error("{0} can't be sent")]
    NotSendable(&'static str),
}
