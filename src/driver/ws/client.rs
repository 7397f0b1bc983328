//! Making a connection: TCP, then the WebSocket handshake, which offers both versions.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::header;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handshake::{accept_key, new_key};
use super::{SUBPROTOCOL_V1, SUBPROTOCOL_V2, no_delay};
use crate::model::limits;
use crate::model::peer::ProtocolVersion;

/// A connection after its handshake, for `Hub::open`.
#[derive(Debug)]
pub struct Connected {
    pub(super) stream: TcpStream,
    /// What the daemon said right behind its answer.
    pub(super) read: Bytes,
    /// What the daemon chose.
    pub version: ProtocolVersion,
    /// Its address.
    pub peer: SocketAddr,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host is there, but no process has the port.
    #[error("nothing listens at {addr}")]
    Refused { addr: SocketAddr },
    /// No answer in time.
    #[error("{addr} did not answer within {} s", after.as_secs())]
    Timeout { addr: SocketAddr, after: Duration },
    /// The system can't connect.
    #[error("can't connect to {addr}: {source}")]
    Io {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// An HTTP answer other than a WebSocket.
    #[error("{addr} answered {status}: {text}")]
    Status { addr: SocketAddr, status: u16, text: String },
    /// Something else speaks there.
    #[error("{addr} is not a ciruela server: {why}")]
    NotCiruela { addr: SocketAddr, why: String },
}

/// Connects to a daemon; `host` is what it is called in the request.
pub async fn connect(addr: SocketAddr, host: &str) -> Result<Connected, ConnectError> {
    connect_from(None, addr, host).await
}

/// Connects from one of this host's addresses; `None`: whichever the system chooses.
pub async fn connect_from(from: Option<IpAddr>, addr: SocketAddr, host: &str) -> Result<Connected, ConnectError> {
    let attempt = async { shake_hands(open(from, addr).await?, addr, host).await };
    let after = limits::HANDSHAKE_TIMEOUT;
    timeout(after, attempt).await.unwrap_or(Err(ConnectError::Timeout { addr, after }))
}

/// A TCP connection.
pub(super) async fn open(from: Option<IpAddr>, addr: SocketAddr) -> Result<TcpStream, ConnectError> {
    let stream = stream(from, addr).await.map_err(|source| {
        if source.kind() == io::ErrorKind::ConnectionRefused {
            ConnectError::Refused { addr }
        } else {
            ConnectError::Io { addr, source }
        }
    })?;
    no_delay(&stream);
    Ok(stream)
}

async fn stream(from: Option<IpAddr>, addr: SocketAddr) -> io::Result<TcpStream> {
    let Some(from) = from.filter(|from| from.is_ipv4() == addr.is_ipv4()) else {
        return TcpStream::connect(addr).await;
    };
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(addr).await
}

async fn shake_hands(stream: TcpStream, addr: SocketAddr, host: &str) -> Result<Connected, ConnectError> {
    let no = |why: String| ConnectError::NotCiruela { addr, why };
    let key = new_key();
    let request = Request::get("/")
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, format!("{SUBPROTOCOL_V2}, {SUBPROTOCOL_V1}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| no(format!("{host:?} can't be in a request: {error}")))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(limits::HTTP_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| no(error.to_string()))?;
    // Dropped, and so ended, with this attempt.
    let mut driver = JoinSet::new();
    driver.spawn(connection.with_upgrades());
    let response = sender.send_request(request).await.map_err(|error| no(with_cause(&error)))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status().as_u16();
        return Err(ConnectError::Status { addr, status, text: text_of(response).await });
    }
    let version = check(&response, &key).map_err(|why| no(why.into()))?;
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| no(with_cause(&error)))?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| no("not the stream that was given".into()))?;
    Ok(Connected { stream: parts.io.into_inner(), read: parts.read_buf, version, peer: addr })
}

/// The version in an answer that switches protocols.
fn check(response: &Response<Incoming>, key: &str) -> Result<ProtocolVersion, &'static str> {
    let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept.as_bytes() != accept_key(key.as_bytes()).as_bytes()) {
        return Err("its WebSocket handshake is wrong");
    }
    match response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).map(header::HeaderValue::as_bytes) {
        Some(name) if name == SUBPROTOCOL_V2.as_bytes() => Ok(ProtocolVersion::V2),
        Some(name) if name == SUBPROTOCOL_V1.as_bytes() => Ok(ProtocolVersion::V1),
        Some(_) => Err("it chose a protocol that was not offered"),
        None => Ok(ProtocolVersion::V1),
    }
}

/// The first line of an answer, cut, for people.
pub(super) async fn text_of(response: Response<Incoming>) -> String {
    let body = Limited::new(response.into_body(), limits::TEXT_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

pub(super) fn with_cause(error: &hyper::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
