//! The daemon as a process: pages, signals, configuration, and clients of `ciruela.v1` as they exist.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use bytes::Bytes;
use ciruela::driver::scan::{Scan, ScanOptions, scan};
use ciruela::format::ssh::{SecretKey, public_key_line};
use ciruela::format::wire::{self, BlockHint, Message, Notification, PublishedChange, Request, Response};
use ciruela::format::{change, signature};
use ciruela::model::change::{Change, Verb};
use ciruela::model::ids::ImageId;
use ciruela::model::key::Scheme;
use ciruela::model::time::Stamp;
use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::daemon::{Daemon, tree};

fn secret() -> SecretKey {
    SecretKey::from_seed(&[5; 32])
}

pub(crate) fn public_keys() -> String {
    public_key_line(&secret().public_key(), "ci@test")
}

fn now() -> Stamp {
    ciruela::driver::clock::stamp()
}

/// A client as the existing ones are: no subprotocol, signatures over `[path, image, timestamp]`, blocks one by one.
struct OldClient {
    socket: WebSocketStream<TcpStream>,
    last_request: u64,
    notifications: Vec<Notification>,
}

impl OldClient {
    async fn connect(daemon: &Daemon) -> Self {
        let stream = TcpStream::connect(daemon.address).await.expect("it listens");
        let (socket, answer) =
            tokio_tungstenite::client_async(format!("ws://{}/", daemon.address), stream).await.expect("a WebSocket");
        assert!(answer.headers().get("sec-websocket-protocol").is_none(), "none was offered");
        Self { socket, last_request: 0, notifications: Vec::new() }
    }

    async fn send(&mut self, message: Message) {
        let frame = wire::encode(&message).expect("it can be sent");
        self.socket.send(Frame::Binary(frame.into())).await.expect("sent");
    }

    async fn receive(&mut self) -> Message {
        loop {
            match self.socket.next().await.expect("not closed").expect("no error") {
                Frame::Binary(frame) => return wire::decode(&frame).expect("a message"),
                Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => {}
                other @ (Frame::Text(_) | Frame::Close(_)) => panic!("{other:?}"),
            }
        }
    }

    /// Asks, serving the daemon's own requests meanwhile.
    async fn ask(&mut self, request: Request, scan: Option<(&Path, &Scan)>) -> Response {
        self.last_request += 1;
        let asked = self.last_request;
        self.send(Message::Request { id: asked, request }).await;
        loop {
            match self.receive().await {
                Message::Response { id, response } if id == asked => return response,
                other => self.react(other, scan).await,
            }
        }
    }

    async fn react(&mut self, message: Message, scan: Option<(&Path, &Scan)>) {
        match message {
            Message::Notification(notification) => self.notifications.push(notification),
            Message::Request { id, request } => {
                let (root, scan) = scan.expect("nothing is offered");
                let response = match request {
                    Request::GetIndex { id, .. } if id == scan.id => {
                        Response::GetIndex { data: Some(scan.index.to_vec().into()) }
                    }
                    Request::GetBlock { hash, hint } => {
                        Response::GetBlock { data: Some(block(root, scan, hash, hint)) }
                    }
                    other => panic!("existing clients don't know {other:?}"),
                };
                self.send(Message::Response { id, response }).await;
            }
            other => panic!("{other:?}"),
        }
    }

    /// Serves until a notification comes.
    async fn notification(&mut self, scan: Option<(&Path, &Scan)>) -> Notification {
        while self.notifications.is_empty() {
            let message = self.receive().await;
            self.react(message, scan).await;
        }
        self.notifications.remove(0)
    }
}

/// The block as the hint says, checked.
fn block(root: &Path, scan: &Scan, hash: ciruela::model::ids::BlockHash, hint: Option<BlockHint>) -> Bytes {
    let hint = hint.expect("daemons give hints");
    let content = fs::read(root.join(hint.file.trim_start_matches('/'))).expect("the hint is right");
    let start = usize::try_from(hint.offset).expect("small");
    let data = &content[start..content.len().min(start + 32_768)];
    assert_eq!(ciruela::format::hash::hash_one(scan.image.hash_kind(), data), hash, "the hint is right");
    Bytes::copy_from_slice(data)
}

fn sample(root: &Path) -> Scan {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(root.join("sub/empty")).expect("mkdir");
    fs::write(root.join("hello"), "hello\n").expect("write");
    fs::write(root.join("sub/large"), (0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).expect("write");
    fs::write(root.join("sub/run"), "#!/bin/sh\n").expect("write");
    fs::set_permissions(root.join("sub/run"), fs::Permissions::from_mode(0o755)).expect("chmod");
    std::os::unix::fs::symlink("../hello", root.join("sub/link")).expect("symlink");
    scan(root, &ScanOptions::default(), &|_| ()).expect("it can be scanned")
}

fn published(secret: &SecretKey, path: &str, image: ImageId, stamp: Stamp) -> PublishedChange {
    let vpath = path.parse().unwrap_or_else(|_| "/data/any".parse().expect("valid"));
    let change = Change { cluster: None, verb: Verb::Append, path: vpath, image: Some(image), old_image: None, stamp };
    let message = change::signed_bytes(&change, Scheme::Legacy).expect("an append can be signed so");
    let signatures = vec![signature::sign(secret, &message)];
    PublishedChange { path: path.to_owned(), image, timestamp: stamp, signatures, old_image: None }
}

fn accepted(response: &Response) -> Result<(), String> {
    let (Response::AppendDir(answer) | Response::ReplaceDir(answer)) = response else { panic!("{response:?}") };
    if answer.accepted { Ok(()) } else { Err(answer.reject_reason.clone().expect("a reason")) }
}

#[tokio::test]
async fn existing_clients_upload_and_download() {
    let daemon = Daemon::prepare(11, &public_keys());
    daemon.configure("data", "data", "append-only: true\nlegacy-signatures: true");
    let mut daemon = daemon;
    daemon.spawn();
    let source = tempfile::tempdir().expect("tempdir");
    let image = sample(source.path());
    let offered = Some((source.path(), &image));
    let mut client = OldClient::connect(&daemon).await;
    client.send(Message::Notification(Notification::PublishImage { id: image.id })).await;
    let append = published(&secret(), "/data/image", image.id, now());
    let response = client.ask(Request::AppendDir(append.clone()), offered).await;
    assert_eq!(accepted(&response), Ok(()));
    let Notification::ReceivedImage(event) = client.notification(offered).await else { panic!("not received") };
    assert_eq!((event.id, event.path.as_str(), &*event.host.hostname), (image.id, "/data/image", "node11"));
    assert_eq!(tree(&daemon.data("data/image")), tree(source.path()));

    // Again: already there, and said so.
    let response = client.ask(Request::AppendDir(append), offered).await;
    assert_eq!(accepted(&response), Ok(()));
    assert!(matches!(client.notification(offered).await, Notification::ReceivedImage(_)));

    // Reading back, as `download` and `edit` do.
    let path = "/data/image".parse().expect("valid");
    let Response::GetIndexAt { data: Some(data), hosts } = client.ask(Request::GetIndexAt { path }, None).await else {
        panic!("no index")
    };
    assert_eq!(data, image.index.to_vec());
    assert_eq!(hosts.values().map(AsRef::as_ref).collect::<Vec<&str>>(), ["node11"]);
    let file = image.image.file("sub/large").expect("it is there");
    let hash = image.image.file_hashes(&file)[1];
    let hint = |file: &str, offset| {
        Some(BlockHint { path: "/data/image".parse().expect("valid"), file: file.to_owned(), offset })
    };
    let right = client.ask(Request::GetBlock { hash, hint: hint("/sub/large", 32_768) }, None).await;
    let Response::GetBlock { data: Some(data) } = right else { panic!("{right:?}") };
    assert_eq!(data, fs::read(source.path().join("sub/large")).expect("readable")[32_768..65_536]);
    // A hint never leads out, and never to other content than the hash names.
    for (file, offset) in [
        ("/../../conf/keys/ci.key", 0),
        ("/sub/large", 0),
        ("/sub/large", 1),
        ("/sub/link", 0),
        ("/sub/large", u64::MAX),
    ] {
        let wrong = client.ask(Request::GetBlock { hash, hint: hint(file, offset) }, None).await;
        assert!(matches!(wrong, Response::Error(_)), "{file} {offset}: {wrong:?}");
    }
}

#[tokio::test]
async fn existing_clients_hear_the_published_words() {
    let daemon = Daemon::start(12, &public_keys());
    let image = ImageId::new([9; 32]);
    let mut client = OldClient::connect(&daemon).await;
    let stranger = SecretKey::from_seed(&[6; 32]);
    let table = [
        ("no_config", published(&secret(), "/nowhere/x", image, now())),
        ("config_level_mismatch", published(&secret(), "/data/x/y", image, now())),
        ("signature_mismatch", published(&stranger, "/data/x", image, now())),
        // Signed well, but the older form is not allowed here.
        ("signature_mismatch", published(&secret(), "/data/x", image, now())),
    ];
    for (word, change) in table {
        let response = client.ask(Request::AppendDir(change), None).await;
        assert_eq!(accepted(&response), Err(word.to_owned()));
    }
    let bad = published(&secret(), "/data/../etc", image, now());
    let response = client.ask(Request::AppendDir(bad), None).await;
    assert!(matches!(&response, Response::Error(text) if text.contains("`..`")), "{response:?}");
    let made = tree(&daemon.data("data"));
    assert!(made.keys().all(|name| name.is_empty() || name == ".ciruela-staging"), "{made:?}");
}

#[test]
fn pages() {
    let daemon = Daemon::start(13, &public_keys());
    assert!(daemon.get("/").contains("on node13"));
    let status: serde_json::Value = serde_json::from_str(&daemon.get("/status.json")).expect("JSON");
    assert_eq!(status["machine_id"], "0d".repeat(16));
    assert_eq!(status["directories"], serde_json::json!(["conf", "data"]));
    assert!(daemon.get("/metrics").contains("ciruela_connections"));
}

#[test]
fn signals() {
    let mut daemon = Daemon::start(14, &public_keys());
    daemon.configure("more", "more-data", "append-only: true");
    daemon.signal(Signal::HUP);
    daemon.wait_for_line("configuration read again");
    assert!(daemon.get("/status.json").contains("\"more\""));
    daemon.configure("more", "more-data", "append-only: perhaps");
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for_line("the old configuration stays");
    daemon.wait_for_line("more.yaml");
    assert!(line.contains("ERROR"), "{line}");
    assert!(daemon.get("/status.json").contains("\"more\""), "the old one stays");
    daemon.signal(Signal::TERM);
    daemon.wait_for_line("stopped");
    assert!(daemon.wait().success());
}

/// Whichever of its parts ends first, it is a good end. Several at once, so that they get into each other's way.
#[test]
fn stopping_always_succeeds() {
    let mut daemons = [17, 18, 19, 20].map(|number| Daemon::start(number, &public_keys()));
    for round in 0..10 {
        let connect = |daemon: &Daemon| std::net::TcpStream::connect(daemon.address).expect("it listens");
        let connections: Vec<_> = daemons.iter().filter(|_| round % 2 == 0).map(connect).collect();
        for daemon in &daemons {
            daemon.signal(if round % 4 < 2 { Signal::TERM } else { Signal::INT });
        }
        for daemon in &mut daemons {
            assert!(daemon.wait().success(), "round {round}");
        }
        drop(connections);
        daemons.iter_mut().for_each(Daemon::spawn);
    }
}

fn server(args: &[&str]) -> Output {
    // A daemon that should not have started is ended.
    assert_cmd::Command::new(cargo_bin("ciruela-server"))
        .args(args)
        .timeout(Duration::from_mins(1))
        .output()
        .expect("starts")
}

#[test]
fn wrong_starts_say_what_is_wrong() {
    let daemon = Daemon::start(15, &public_keys());
    let folder = |name: &str| daemon.data(name).to_str().expect("UTF-8").to_owned();
    let (conf, db, port) = (folder("conf"), folder("db"), daemon.address.port().to_string());
    let other = tempfile::tempdir().expect("tempdir");
    let other_db = other.path().to_str().expect("UTF-8");
    let id = ["--override-machine-id", "00000000000000000000000000000001"];
    let table = [
        (vec!["-c", "/nowhere/at/all"], "no such folder"),
        (vec!["-c", &conf, "--db-dir", &db, "--host", "127.0.0.15", "--port", "0"], "in use"),
        (
            vec!["-c", &conf, "--db-dir", other_db, "--host", "127.0.0.15", "--port", &port],
            "can't listen on 127.0.0.15",
        ),
        (vec!["-c", &conf, "--db-dir", "/proc/nothing", "--host", "127.0.0.15", "--port", "0"], "/proc/nothing"),
    ];
    for (mut args, part) in table {
        args.extend(id);
        let output = server(&args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.contains(part), "{args:?}: {text}");
    }
}

#[test]
fn check_config_finds_mistakes() {
    let daemon = Daemon::prepare(16, &public_keys());
    let conf = daemon.data("conf");
    let check = || server(&["-c", conf.to_str().expect("UTF-8"), "check-config"]);
    assert_eq!(check().status.code(), Some(0));
    daemon.configure("bad", "bad-data", "append_only: true");
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parts = ["bad.yaml", "append_only", "append-only", "bad.yaml:4:"];
    let missing: BTreeMap<_, _> =
        parts.iter().map(|part| (part, text.contains(part))).filter(|(_, there)| !there).collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
}
