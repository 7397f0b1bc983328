//! The pages on the daemon's port, each from one look at the node.

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::status::{self, Metrics};
use crate::driver::clock::Clock;
use crate::driver::node_loop::Control;
use crate::driver::ws::{Handler, Page};

/// Asks the loop how it stands.
pub(super) struct Pages {
    pub(super) control: mpsc::Sender<Control>,
    pub(super) metrics: std::sync::Arc<Metrics>,
    pub(super) version: &'static str,
    /// Counts from the daemon's start.
    pub(super) clock: Clock,
}

impl Handler for Pages {
    fn page<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Option<Page>> {
        Box::pin(async move {
            if !matches!(path, "/" | "/status.json" | "/metrics") {
                return None;
            }
            let (reply, answer) = oneshot::channel();
            self.control.send(Control::Status(reply)).await.ok()?;
            let status = answer.await.ok()?;
            let (content_type, body) = match path {
                "/" => ("text/plain; charset=utf-8", status::text(&status, self.version)),
                "/metrics" => ("text/plain; version=0.0.4", self.metrics.render(&status)),
                _ => ("application/json", status::json(&status, self.version, self.clock.now().time.since_start())),
            };
            Some(Page { content_type, body: body.into() })
        })
    }
}
