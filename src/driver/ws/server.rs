//! The daemon's port: WebSocket upgrades and a few pages. One request per TCP connection.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::handle::Books;
use super::handshake;
use super::places::{NoPlace, Place, Places};
use super::{Hub, Role, SUBPROTOCOL_V1, SUBPROTOCOL_V2, no_delay};
use crate::model::limits;
use crate::model::peer::ProtocolVersion;

/// How many connections at once, of any kind.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Further ones are answered with status 503.
    pub max_connections: usize,
    /// Addresses for which some of them are kept.
    pub peers: watch::Receiver<BTreeSet<IpAddr>>,
}

impl ServerOptions {
    /// Nobody has precedence.
    pub fn new(max_connections: usize) -> Self {
        Self { max_connections, peers: watch::channel(BTreeSet::new()).1 }
    }
}

/// Gives the pages.
pub trait Handler: Send + Sync + 'static {
    /// The page at `path` (`/status.json`); `None`: there is none.
    fn page<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Option<Page>>;
}

/// An answer to a browser or a metrics collector.
#[derive(Debug, Clone)]
pub struct Page {
    /// As in the header.
    pub content_type: &'static str,
    /// All of it.
    pub body: Bytes,
}

type Answer = Response<Full<Bytes>>;

/// What the request handler leaves for after the answer.
type Upgrade = Mutex<Option<(OnUpgrade, ProtocolVersion)>>;

/// Accepts connections until `shutdown` is ready; those that are open then are their owners' to close.
pub async fn serve(
    listener: TcpListener,
    options: ServerOptions,
    handler: Arc<dyn Handler>,
    hub: Hub,
    shutdown: impl Future<Output = ()>,
) {
    let places = Places::new(options.max_connections, options.peers);
    let refusals = Arc::new(Semaphore::new(limits::CONNECTIONS_REFUSED_AT_ONCE_MAX));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(&error).await;
                continue;
            }
        };
        no_delay(&stream);
        match places.take(peer.ip()) {
            Ok(place) => {
                let (handler, hub) = (Arc::clone(&handler), hub.clone());
                tokio::spawn(async move { serve_one(stream, peer, &*handler, hub, place).await });
            }
            Err(why) => {
                let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() else { continue };
                match why {
                    NoPlace::Node => {
                        tracing::warn!(%peer, max = options.max_connections, "too many connections, one refused");
                    }
                    NoPlace::Host(max) => {
                        tracing::warn!(%peer, max, "too many connections from one address, one refused");
                    }
                }
                tokio::spawn(async move {
                    // Whether the peer hears it or not, it is closed.
                    let _ = timeout(limits::CLOSE_TIMEOUT, refuse(stream, why)).await;
                    drop(permit);
                });
            }
        }
    }
}

/// One connection's error concerns nobody else; running out of file descriptors passes, but not at once.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "can't accept a connection");
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        sleep(Duration::from_millis(100)).await;
    }
}

async fn refuse(mut stream: TcpStream, why: NoPlace) -> io::Result<()> {
    let text = why.to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\n\
        Content-Length: {}\r\nRetry-After: 5\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // A request that nobody read would make the system drop the answer.
    let mut scratch = [0; 4096];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}

async fn serve_one(stream: TcpStream, peer: SocketAddr, handler: &dyn Handler, hub: Hub, place: Place) {
    let upgrade = Upgrade::default();
    let service = service_fn(|request| {
        let answer = answer(request, handler, &upgrade);
        async move { Ok::<_, Infallible>(closing(answer.await)) }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HANDSHAKE_TIMEOUT)
        .max_buf_size(limits::HTTP_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // The page, too, must be read in that time.
    match timeout(2 * limits::HANDSHAKE_TIMEOUT, http).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "bad HTTP"),
        Err(_) => return tracing::debug!(%peer, "the HTTP request took too long"),
    }
    let upgrade = upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((upgraded, version)) = upgrade else { return };
    let parts = match upgraded.await.map(hyper::upgrade::Upgraded::downcast::<TokioIo<TcpStream>>) {
        Ok(Ok(parts)) => parts,
        Ok(Err(_)) => return tracing::error!(%peer, "an upgraded stream that was never given"),
        Err(error) => return tracing::debug!(%peer, %error, "no upgrade"),
    };
    let (handle, task) = hub.connection(parts.io.into_inner(), parts.read_buf, Role::Server, version, peer);
    let books = Arc::clone(&handle.books);
    // The owner gets its own with the first event.
    drop(handle);
    let mut task = std::pin::pin!(task);
    tokio::select! {
        () = &mut task => return,
        () = in_the_way(&place, &books) => {}
    }
    books.abort(format!("nothing said in {} s, and others need the place", limits::UNSPOKEN_TIMEOUT.as_secs()));
    task.await;
}

/// Waits until the peer has said nothing for long and its place is needed. Clients may have good reasons to say nothing
/// for a while: somebody confirms a signature, or another node's answer is slow. Pings alone are no such reason.
async fn in_the_way(place: &Place, books: &Books) {
    sleep(limits::UNSPOKEN_TIMEOUT).await;
    while !place.is_scarce() && !books.spoken.load(Ordering::Relaxed) {
        sleep(limits::PING_INTERVAL).await;
    }
    if books.spoken.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// One request per connection: said of every answer but an upgrade, whose `Connection` header clients compare as a whole.
fn closing(mut answer: Answer) -> Answer {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn answer(mut request: Request<Incoming>, handler: &dyn Handler, upgrade: &Upgrade) -> Answer {
    let is_upgrade = request.headers().contains_key(header::UPGRADE);
    if is_upgrade && request.uri().path() == "/" {
        return match accept_upgrade(&request) {
            Ok((version, answer)) => {
                let upgraded = hyper::upgrade::on(&mut request);
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgraded, version));
                answer
            }
            Err((status, text)) => plain(status, text),
        };
    }
    // Of an answer to HEAD, hyper sends the head.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match handler.page(request.uri().path()).await {
        Some(page) => {
            let mut answer = Response::new(Full::new(page.body));
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(page.content_type));
            answer
        }
        None => plain(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

fn accept_upgrade(request: &Request<Incoming>) -> Result<(ProtocolVersion, Answer), (StatusCode, &'static str)> {
    if from_browser(request.headers()) {
        return Err((StatusCode::FORBIDDEN, "browsers may not connect here"));
    }
    let bad = (StatusCode::BAD_REQUEST, "this is no proper WebSocket handshake");
    let mut answer: Answer = handshake::answer(request).ok_or(bad)?;
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered = || offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim);
    let (version, chosen) = if offered().any(|name| name == SUBPROTOCOL_V2) {
        (ProtocolVersion::V2, Some(SUBPROTOCOL_V2))
    } else if offered().any(|name| name == SUBPROTOCOL_V1) {
        (ProtocolVersion::V1, Some(SUBPROTOCOL_V1))
    } else if request.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Err((StatusCode::BAD_REQUEST, "this node speaks ciruela.v2 and ciruela.v1"));
    } else {
        (ProtocolVersion::V1, None)
    };
    if let Some(chosen) = chosen {
        answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    Ok((version, answer))
}

/// Whether the request comes from a page in a browser. Existing clients send an `Origin` as well, but with a path, which
/// browsers never do (RFC 6454): `http://HOST/`.
fn from_browser(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    origin.as_bytes() != [b"http://", host, b"/"].concat()
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
