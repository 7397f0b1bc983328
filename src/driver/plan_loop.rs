//! Asks one node after the other what changes would do there, and gives it the indexes that it asks for. It decides nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::reach;
use super::ws::{self, ConnectionHandle, Hub};
use crate::format::index::IndexText;
use crate::format::wire::{Message, Notification, PlanAnswer, Request, Response};
use crate::model::change::SignedChange;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::{Host, ProtocolVersion};

/// Index texts, by image.
pub type Indexes = Arc<BTreeMap<ImageId, IndexText>>;

/// A node that is being asked.
pub struct Asking {
    /// Who it is.
    pub host: Host,
    handle: ConnectionHandle,
    events: mpsc::Receiver<ws::Event>,
    indexes: Indexes,
    last_request: u64,
}

impl Asking {
    /// Connects, and waits until the node says who it is.
    pub async fn open(address: SocketAddr, indexes: Indexes) -> Result<Self, String> {
        let connected = ws::connect(address, &address.to_string()).await.map_err(|error| error.to_string())?;
        if connected.version == ProtocolVersion::V1 {
            return Err(ProtocolVersion::TOO_OLD.to_owned());
        }
        let (sender, mut events) = mpsc::channel(limits::CLIENT_EVENTS_QUEUED_MAX);
        let handle = Hub::new(sender).impatient().open(connected);
        let greeting = async {
            loop {
                match events.recv().await {
                    Some(ws::Event::Message { message: Message::Notification(Notification::Hello(hello)), .. }) => {
                        return Ok(hello.host);
                    }
                    Some(ws::Event::Closed { reason, .. }) => return Err(reason.to_string()),
                    Some(ws::Event::Opened(_) | ws::Event::Message { .. }) => {}
                    None => return Err("the connection is gone".to_owned()),
                }
            }
        };
        let host =
            timeout(limits::DOWN_AFTER, greeting).await.map_err(|_| "it has not said who it is".to_owned())??;
        Ok(Self { host, handle, events, indexes, last_request: 0 })
    }

    /// What would come of a change.
    pub async fn ask(&mut self, change: SignedChange) -> Result<PlanAnswer, String> {
        self.last_request += 1;
        let id = self.last_request;
        reach::send(&self.handle, Message::Request { id, request: Request::Plan(change) });
        timeout(limits::PLAN_DURATION_MAX, self.answered(id))
            .await
            .unwrap_or_else(|_| Err("it took too long to answer".to_owned()))
    }

    async fn answered(&mut self, asked: u64) -> Result<PlanAnswer, String> {
        loop {
            match self.events.recv().await {
                Some(ws::Event::Message { message: Message::Response { id, response }, .. }) if id == asked => {
                    if let Response::Plan(answer) = response {
                        return Ok(*answer);
                    }
                    let other = "it answered another question".to_owned();
                    return Err(if let Response::Error(text) = response { text } else { other });
                }
                Some(ws::Event::Message { message: Message::Request { id, request }, .. }) => {
                    let response = self.serve(&request);
                    reach::send(&self.handle, Message::Response { id, response });
                }
                Some(ws::Event::Message { message: Message::Malformed { id, error, .. }, .. }) => {
                    let response = Response::Error(error.to_string());
                    reach::send(&self.handle, Message::Response { id, response });
                }
                Some(ws::Event::Closed { reason, .. }) => return Err(reason.to_string()),
                Some(ws::Event::Opened(_) | ws::Event::Message { .. }) => {}
                None => return Err("the connection is gone".to_owned()),
            }
        }
    }

    fn serve(&self, request: &Request) -> Response {
        let Request::GetIndexPart { id, offset } = request else {
            return Response::Error("for a plan only indexes are given".to_owned());
        };
        match self.indexes.get(id).filter(|index| *offset < index.len()) {
            Some(index) => {
                let data = index.part(*offset, limits::INDEX_PART_BYTES_MAX).into();
                Response::GetIndexPart { data, total: index.len() }
            }
            None => Response::Error("not found".to_owned()),
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        reach::close(&self.handle, "all is done");
    }
}
