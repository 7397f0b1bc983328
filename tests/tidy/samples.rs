//! Each check fails on a bad sample and is silent on a good one.

use std::collections::BTreeSet;

use super::checks::{self, File};
use super::paths;

fn file(path: &str, text: &str) -> File {
    File { path: path.into(), text: text.into() }
}

fn joined(code: &str) -> Vec<String> {
    paths::all(code).iter().map(|path| path.join(" ")).collect()
}

#[test]
fn trees_are_unfolded() {
    assert_eq!(joined("use a::{b, c::{d as e, f::*}, g};x::y()"), ["a b", "a c d", "a c f *", "a g", "x y"]);
    assert_eq!(joined("fn f(a: crate::x::Y) -> ::std::fs::File {}"), ["crate x Y", "std fs File"]);
    assert_eq!(joined("use a::{\n    self,\n    b::C,\n};\nlet d = <T as E>::f();"), ["a self", "a b C"]);
    assert!(joined("a: b, c {d}").is_empty());
    assert!(joined("use a::{b").len() == 1, "an unfinished tree ends");
}

#[test]
fn supers_are_resolved() {
    let resolve = |file, path: &str| {
        let path: Vec<_> = path.split(' ').map(str::to_owned).collect();
        paths::resolve(file, &path).map(|path| path.join(" "))
    };
    assert_eq!(resolve("src/engine/fetch.rs", "super deploy X").as_deref(), Some("engine deploy X"));
    assert_eq!(resolve("src/engine/fetch/plan.rs", "super super super driver").as_deref(), Some("driver"));
    assert_eq!(resolve("src/engine/fetch/mod.rs", "super deploy").as_deref(), Some("engine deploy"));
    assert_eq!(resolve("src/model/ids.rs", "std fs"), None);
    assert_eq!(resolve("src/model/ids.rs", "super super super x"), None);
}

#[test]
fn upward_imports() {
    let complaints = |path, text| checks::layers(&file(path, text)).len();
    assert_eq!(complaints("src/model/ids.rs", "use crate::format::hash;"), 1);
    assert_eq!(complaints("src/model/ids.rs", "use crate::{format::hash, model::time, driver::db};"), 2);
    assert_eq!(complaints("src/engine/node.rs", "fn f() { crate::driver::clock::stamp() }"), 1);
    assert_eq!(complaints("src/engine/node.rs", "use super::super::daemon::args;"), 1);
    assert_eq!(complaints("src/format/wire.rs", "#[cfg(test)]\nmod tests { use crate::engine::node; }"), 1);
    assert_eq!(complaints("src/client/sync.rs", "use crate::daemon::args;"), 1);
    assert_eq!(complaints("src/daemon/args.rs", "use crate::client::ui;"), 1);
    assert_eq!(complaints("src/client/demo/node.rs", "use crate::daemon::args;"), 0);
    assert_eq!(complaints("src/driver/db.rs", "use crate::{engine, format, model, driver::pool};"), 0);
    assert_eq!(complaints("src/model/ids.rs", "//! See crate::driver::db.\nuse super::time; // crate::client::ui"), 0);
    assert_eq!(complaints("src/lib.rs", "pub use crate::client::ui;"), 0);
}

#[test]
fn engines_that_know_each_other() {
    let engines: BTreeSet<_> = ["access", "contract", "deploy", "fetch", "node"].map(str::to_owned).into();
    let complaints = |path, text| checks::siblings(&file(path, text), &engines).len();
    assert_eq!(complaints("src/engine/fetch.rs", "use super::deploy::State;"), 1);
    assert_eq!(complaints("src/engine/fetch.rs", "use crate::engine::{contract::Engine, deploy, access};"), 2);
    assert_eq!(complaints("src/engine/fetch/plan.rs", "use super::super::deploy;"), 1);
    assert_eq!(complaints("src/engine/fetch.rs", "use super::*;"), 1);
    assert_eq!(complaints("src/engine/fetch/plan.rs", "use super::Fetch; use super::deploy;"), 0);
    assert_eq!(complaints("src/engine/fetch.rs", "use super::contract::Engine;"), 0);
    assert_eq!(complaints("src/engine/node.rs", "use super::{deploy, fetch};"), 0);
}

#[test]
fn impure_layers() {
    let complaints = |path, text| checks::purity(&file(path, text)).len();
    for text in [
        "use std::fs;",
        "use std::{fmt, fs::File};",
        "let x = std::env::var(y);",
        "use std::net::{IpAddr, TcpStream};",
        "use std::net;",
        "use std::time::{Duration, Instant};",
        "use std::time::SystemTime;",
        "std::thread::spawn(f)",
        "std::io::stdout()",
        "tokio::spawn(f)",
        "use rustix::{fs};",
        "let r = rand::rng();",
        "use rand::rngs::OsRng;",
    ] {
        assert_eq!(complaints("src/format/x.rs", text), 1, "{text}");
        assert_eq!(complaints("src/driver/x.rs", text), 0, "{text}");
    }
    for text in [
        "use std::net::{IpAddr, SocketAddr};",
        "use std::io::{Read, Write};",
        "use std::time::Duration;",
        "// tokio::spawn",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
    ] {
        assert_eq!(complaints("src/format/x.rs", text), 0, "{text}");
    }
    assert_eq!(complaints("src/engine/x.rs", "use std::collections::{BTreeMap, HashMap};"), 1);
    assert_eq!(complaints("src/engine/x/tests.rs", "use std::fs;"), 0);
}

#[test]
fn shapes() {
    let complaints = |text: &str| checks::shape(&file("src/x.rs", text)).len();
    assert_eq!(complaints("//! A file.\n"), 0);
    assert_eq!(complaints("// A file.\n"), 1);
    assert_eq!(complaints(""), 1);
    assert_eq!(complaints(&format!("//! A file.\n{}", "\n".repeat(499))), 0);
    assert_eq!(complaints(&format!("//! A file.\n{}", "\n".repeat(500))), 1);
    assert_eq!(complaints(concat!("//! A file.\n// FIX", "ME: later\n")), 1);
    assert_eq!(complaints(concat!("//! A file.\n// XX", "X\n// XX", "XX\n")), 1);
}

#[test]
fn limits_that_nothing_uses() {
    let text = "pub const A: usize = 1;\n/// See [`C`].\npub const B: usize = A;\npub const C: usize = 1;\n";
    let limits = || file("src/model/limits/x.rs", text);
    assert_eq!(checks::limits(&limits()), ["A", "B", "C"]);
    let sources = [limits(), file("src/x.rs", "// limits::C\nlet b = limits::B; let d = BC;")];
    assert_eq!(checks::unused_limits(&limits(), &sources), ["src/model/limits/x.rs: C is used nowhere"]);
}

#[test]
fn links_that_lead_nowhere() {
    let exists = |path: &str| ["doc/keys.md", "README.md", "src/lib.rs", "doc"].contains(&path);
    let complaints = |path, text| checks::missing_files(&file(path, text), &exists).len();
    assert_eq!(complaints("doc/a.md", "[k](keys.md) [k](keys.md#x) [k](./keys.md) [r](../README.md) [d](../doc/)"), 0);
    assert_eq!(complaints("doc/a.md", "[x](https://example.org/x.md) [y](#here) `src/lib.rs` `src/*.rs`"), 0);
    assert_eq!(complaints("README.md", "[k](keys.md)"), 1);
    assert_eq!(complaints("doc/a.md", "[k](doc/keys.md), `src/gone.rs`"), 2);
    assert_eq!(complaints("doc/a.md", "```\n[k](gone.md) `src/gone.rs`\n```\n"), 0);
}

#[test]
fn dependencies_and_their_lines() {
    let manifest =
        "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb = { version = \"2\" }\n[dev-dependencies]\nc = \"3\"\n";
    let complaints = |page| checks::dependencies(manifest, page);
    assert_eq!(complaints("| crate | why |\n| `a` | x |\n| `b` | y |\n| `c` | z |"), Vec::<String>::new());
    assert_eq!(complaints("| `a` | x |\n| `c` | z |"), ["doc/dependencies.md: no line for `b`"]);
    assert_eq!(complaints("| `a` |\n| `b` |\n| `c` |\n| `d` |"), ["doc/dependencies.md: `d` isn't in Cargo.toml"]);
}
