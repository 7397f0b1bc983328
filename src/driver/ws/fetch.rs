//! A page of a daemon, over plain HTTP on its port.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{ConnectError, open, text_of, with_cause};
use crate::model::limits;

/// The page at `path` (`/status.json`), at most [`limits::STATUS_PAGE_BYTES_MAX`] long. Takes no longer than [`limits::PAGE_TIMEOUT`].
pub async fn fetch(addr: SocketAddr, path: &str) -> Result<Bytes, ConnectError> {
    let attempt = async { ask(open(None, addr).await?, addr, path).await };
    timeout(limits::PAGE_TIMEOUT, attempt)
        .await
        .unwrap_or(Err(ConnectError::Timeout { addr, after: limits::PAGE_TIMEOUT }))
}

async fn ask(stream: TcpStream, addr: SocketAddr, path: &str) -> Result<Bytes, ConnectError> {
    let no = |why: String| ConnectError::NotCiruela { addr, why };
    let request = Request::get(path)
        .header(header::HOST, addr.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| no(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(limits::HTTP_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| no(error.to_string()))?;
    // Dropped, and so ended, with this attempt.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| no(with_cause(&error)))?;
    if response.status() != StatusCode::OK {
        let status = response.status().as_u16();
        return Err(ConnectError::Status { addr, status, text: text_of(response).await });
    }
    let body = Limited::new(response.into_body(), limits::STATUS_PAGE_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| no(format!("its page {path} can't be read: {error}")))?.to_bytes())
}
