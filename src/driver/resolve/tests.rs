//! Against an in-process name server on 127.0.0.1, and one that never answers.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA, TXT};
use hickory_resolver::proto::rr::{RData, Record};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// Long enough for any answer on loopback, on any machine.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// More addresses than fit in one datagram, so that the answer comes over TCP.
const MANY: u8 = 200;

fn fqdn(text: &str) -> Name {
    Name::from_utf8(text).expect("a name")
}

fn zone() -> Catalog {
    let origin = fqdn("test.");
    let mut zone: InMemoryZoneHandler = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let mut add = |name: &str, data: RData| assert!(zone.upsert_mut(Record::from_rdata(fqdn(name), 60, data), 1));
    add("test.", RData::SOA(SOA::new(fqdn("ns.test."), fqdn("admin.test."), 1, 60, 60, 60, 60)));
    add("both.test.", RData::A(A(Ipv4Addr::new(127, 0, 0, 2))));
    add("both.test.", RData::A(A(Ipv4Addr::LOCALHOST)));
    add("both.test.", RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)));
    add("four.test.", RData::A(A(Ipv4Addr::new(127, 0, 0, 4))));
    add("six.test.", RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)));
    add("alias.test.", RData::CNAME(CNAME(fqdn("both.test."))));
    add("text.test.", RData::TXT(TXT::new(vec!["no address here".into()])));
    for last in 1..=MANY {
        add("many.test.", RData::A(A(Ipv4Addr::new(127, 0, 1, last))));
    }
    let mut catalog = Catalog::new();
    catalog.upsert(origin.into(), vec![Arc::new(zone)]);
    catalog
}

/// A name server for `test.`, UDP and TCP on one port, and options that ask only it.
async fn start_server() -> (Server<Catalog>, ResolveOptions) {
    start(zone()).await
}

async fn start<H: RequestHandler>(handler: H) -> (Server<H>, ResolveOptions) {
    let mut server = Server::new(handler);
    let address = loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
        let address = udp.local_addr().expect("bound");
        // The same TCP port may be taken: then another one.
        if let Ok(tcp) = TcpListener::bind(address).await {
            server.register_socket(udp);
            server.register_listener(tcp, ANSWER_TIMEOUT, 16);
            break address;
        }
    };
    (server, ask_only(address))
}

fn ask_only(server: SocketAddr) -> ResolveOptions {
    let hosts_file = "/nonexistent/hosts".into();
    ResolveOptions { name_servers: vec![server], hosts_file, timeout: ANSWER_TIMEOUT, grace: ANSWER_TIMEOUT }
}

/// Answers like the zone, but never when asked for one record type.
struct Swallows(RecordType, Catalog);

#[async_trait::async_trait]
impl RequestHandler for Swallows {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, response: R) -> ResponseInfo {
        if request.queries.queries().iter().any(|query| query.query_type() == self.0) {
            std::future::pending::<()>().await;
        }
        self.1.handle_request::<R, T>(request, response).await
    }
}

async fn texts(name: &str, options: &ResolveOptions) -> Vec<String> {
    let addresses = resolve(name, 7, options).await.expect(name);
    addresses.into_iter().map(|address| address.to_string()).collect()
}

#[tokio::test]
async fn literals_ask_nobody() {
    let options = ask_only(SocketAddr::from(([127, 0, 0, 1], 1)));
    assert_eq!(texts("1.2.3.4", &options).await, ["1.2.3.4:7"]);
    assert_eq!(texts("1.2.3.4:8", &options).await, ["1.2.3.4:8"]);
    assert_eq!(texts("::1", &options).await, ["[::1]:7"]);
    assert_eq!(texts("[::1]:80", &options).await, ["[::1]:80"]);
    let error = resolve("256.0.0.1", 7, &options).await.expect_err("no address");
    assert!(matches!(error, ResolveError::Target(_)), "{error}");
    let error = resolve("xn--\u{fc}", 7, &options).await.expect_err("no name in any script");
    assert!(matches!(error, ResolveError::BadName { .. }), "{error}");
}

#[tokio::test]
async fn all_records_of_both_families() {
    let (_server, options) = start_server().await;
    let both = ["127.0.0.1:7", "127.0.0.2:7", "[::1]:7"];
    assert_eq!(texts("both.test", &options).await, both);
    assert_eq!(texts("BOTH.test.", &options).await, both);
    assert_eq!(texts("alias.test", &options).await, both);
    assert_eq!(texts("four.test:99", &options).await, ["127.0.0.4:99"]);
    assert_eq!(texts("six.test", &options).await, ["[::1]:7"]);
}

#[tokio::test]
async fn an_answer_too_large_for_a_datagram() {
    let (_server, options) = start_server().await;
    assert_eq!(texts("many.test", &options).await.len(), usize::from(MANY));
}

#[tokio::test]
async fn no_such_name() {
    let (_server, options) = start_server().await;
    let error = resolve("nobody.test", 7, &options).await.expect_err("not in the zone");
    assert!(matches!(&error, ResolveError::NoSuchName { name } if name == "nobody.test"), "{error:?}");
    assert!(error.to_string().starts_with("no such name: nobody.test"), "{error}");
}

#[tokio::test]
async fn a_name_without_addresses() {
    let (_server, options) = start_server().await;
    let error = resolve("text.test", 7, &options).await.expect_err("only TXT");
    assert!(matches!(&error, ResolveError::NoAddresses { name } if name == "text.test"), "{error:?}");
    assert!(error.to_string().contains("text.test has no addresses"), "{error}");
}

#[tokio::test]
async fn a_server_that_refuses() {
    let (_server, options) = start_server().await;
    let error = resolve("elsewhere.example", 7, &options).await.expect_err("not its zone");
    let servers = options.name_servers[0].to_string();
    assert!(matches!(&error, ResolveError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains(&servers) && error.to_string().contains("elsewhere.example"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
    let server = socket.local_addr().expect("bound");
    let options = ResolveOptions { timeout: Duration::from_millis(50), ..ask_only(server) };
    let error = resolve("both.test", 7, &options).await.expect_err("silence");
    assert!(matches!(&error, ResolveError::NoAnswer { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("the name server at {server} didn't answer")), "{error}");
}

#[tokio::test]
async fn one_record_type_is_never_answered() {
    for (swallowed, expected) in [(RecordType::AAAA, "127.0.0.4:7"), (RecordType::A, "[::1]:7")] {
        let (_server, options) = start(Swallows(swallowed, zone())).await;
        let options = ResolveOptions { grace: Duration::from_millis(50), ..options };
        let name = if swallowed == RecordType::A { "six.test" } else { "four.test" };
        assert_eq!(texts(name, &options).await, [expected]);
        // Whether the name has addresses isn't known then.
        let options = ResolveOptions { timeout: Duration::from_millis(50), ..options };
        let error = resolve("text.test", 7, &options).await.expect_err("silence");
        assert!(matches!(&error, ResolveError::NoAnswer { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_hosts_file_comes_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let hosts_file = folder.path().join("hosts");
    std::fs::write(&hosts_file, "127.0.0.9 both.test N1 # comment\n::9 n1\n# 127.0.0.8 n1\n").expect("written");
    let (_server, options) = start_server().await;
    let options = ResolveOptions { hosts_file, ..options };
    // Only what the file says, though DNS has more.
    assert_eq!(texts("both.test", &options).await, ["127.0.0.9:7"]);
    assert_eq!(texts("n1", &options).await, ["127.0.0.9:7", "[::9]:7"]);
    assert_eq!(texts("N1.:8", &options).await, ["127.0.0.9:8", "[::9]:8"]);
    assert_eq!(texts("four.test", &options).await, ["127.0.0.4:7"]);
}

#[tokio::test]
async fn an_unreadable_hosts_file_is_no_empty_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let options =
        ResolveOptions { hosts_file: folder.path().into(), ..ask_only(SocketAddr::from(([127, 0, 0, 1], 1))) };
    let error = resolve("n1", 7, &options).await.expect_err("a directory");
    assert!(matches!(&error, ResolveError::HostsFile { .. }), "{error:?}");
}

#[test]
fn lookups_can_be_spawned() {
    fn assert_send<T: Send>(_: T) {}
    assert_send(resolve("n1", 7, &ResolveOptions::default()));
}
