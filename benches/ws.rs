//! How fast data goes through the transport over loopback, next to bare TCP: `cargo bench --bench ws`.
//!
//! Blocks are 1 MiB answers, asked for with a window, as in a deployment. Both ends share the machine's cores.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ciruela::driver::ws::{ConnectionHandle, Event, Handler, Hub, Outgoing, Page, ServerOptions, connect, serve};
use ciruela::format::wire::{DataResponse, Message, Request, Response, data_response_head};
use ciruela::model::ids::ImageId;
use ciruela::model::run::Run;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const BLOCK: usize = 1 << 20;
const TOTAL: u64 = 3 << 10;
const WINDOW: u64 = 16;

struct NoPages;

impl Handler for NoPages {
    fn page<'a>(&'a self, _path: &'a str) -> BoxFuture<'a, Option<Page>> {
        Box::pin(std::future::ready(None))
    }
}

/// Asks for everything, with a window.
async fn ask(handle: ConnectionHandle, mut events: mpsc::Receiver<Event>) {
    let (mut asked, mut got) = (0, 0);
    while got < TOTAL {
        while asked < TOTAL && asked < got + WINDOW {
            let request =
                Request::GetBlocks { image: ImageId::new([0; 32]), run: Run { first: asked * 32, count: 32 } };
            handle.try_send(Outgoing::Message(Message::Request { id: asked, request })).expect("queued");
            asked += 1;
        }
        match events.recv().await.expect("connected") {
            Event::Message { message: Message::Response { response: Response::GetBlocks { data }, .. }, .. } => {
                assert_eq!(data.len(), BLOCK);
                got += 1;
            }
            other @ (Event::Opened(_) | Event::Message { .. } | Event::Closed { .. }) => panic!("{other:?}"),
        }
    }
}

/// Answers whatever is asked, with one copy as from a file.
async fn answer(handle: ConnectionHandle, mut events: mpsc::Receiver<Event>) {
    let block = vec![7; BLOCK];
    while let Some(event) = events.recv().await {
        if let Event::Message { message: Message::Request { id, .. }, .. } = event {
            let frame = data_response_head(DataResponse::GetBlocks, id, BLOCK).into();
            let data = Bytes::copy_from_slice(&block);
            handle.try_send(Outgoing::Encoded { frame, data, is_response: true }).expect("queued");
        }
    }
}

async fn opened(events: &mut mpsc::Receiver<Event>) -> ConnectionHandle {
    match events.recv().await {
        Some(Event::Opened(handle)) => handle,
        other => panic!("{other:?}"),
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

async fn websocket(from_client: bool) {
    let (listener, addr) = listen().await;
    let (sender, mut server_events) = mpsc::channel(64);
    let options = ServerOptions::new(10);
    let server = tokio::spawn(serve(listener, options, Arc::new(NoPages), Hub::new(sender), std::future::pending()));
    let (sender, mut client_events) = mpsc::channel(64);
    let client = Hub::new(sender).open(connect(addr, "bench").await.expect("connects"));
    let daemon = opened(&mut server_events).await;
    opened(&mut client_events).await;
    if from_client {
        let source = tokio::spawn(answer(client, client_events));
        ask(daemon, server_events).await;
        source.abort();
    } else {
        let source = tokio::spawn(answer(daemon, server_events));
        ask(client, client_events).await;
        source.abort();
    }
    server.abort();
}

async fn bare_tcp() {
    let (listener, addr) = listen().await;
    let source = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("connects");
        let block = vec![7; BLOCK];
        for _ in 0..TOTAL {
            stream.write_all(&block).await.expect("sent");
        }
    });
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    let mut buffer = vec![0; 128 << 10];
    while stream.read(&mut buffer).await.expect("received") > 0 {}
    source.await.expect("no panic");
}

/// A bench is the one place where the wall clock is the result.
#[expect(clippy::disallowed_methods, reason = "measures time")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = std::time::Instant::now();
    work();
    start.elapsed()
}

#[expect(clippy::print_stdout, reason = "the result of the bench")]
fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let benches: [(&str, &dyn Fn()); 3] = [
        ("bare TCP", &|| runtime.block_on(bare_tcp())),
        ("client to server", &|| runtime.block_on(websocket(true))),
        ("server to client", &|| runtime.block_on(websocket(false))),
    ];
    for round in 1..=3 {
        for (name, work) in benches.iter().filter(|(name, _)| name.contains(&filter)) {
            let seconds = timed(work).as_secs_f64();
            let bytes = TOTAL as f64 * BLOCK as f64;
            println!("{round}  {name:18} {seconds:6.2} s  {:5.2} GB/s", bytes / 1e9 / seconds);
        }
    }
}
