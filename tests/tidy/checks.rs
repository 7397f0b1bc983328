//! The checks: from texts to complaints, each of which names file and reason. They read no files.

use std::collections::BTreeSet;

use super::paths;

/// A file of the project.
pub(crate) struct File {
    /// Relative to the project, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

const LINES_MAX: usize = 500;
/// Each may name those before it; the two last ones don't name each other.
const LAYERS: [(&str, u8); 6] =
    [("model", 0), ("format", 1), ("engine", 2), ("driver", 3), ("client", 4), ("daemon", 4)];
/// (file, layer that it names all the same): the demo starts the daemon's main in processes of its own.
const LAYER_EXCEPTIONS: [(&str, &str); 1] = [("src/client/demo/node.rs", "daemon")];
const PURE: [&str; 3] = ["src/model/", "src/format/", "src/engine/"];

/// Crates that do I/O, keep threads, or read clock or system randomness.
const IMPURE_CRATES: [&str; 15] = [
    "tokio",
    "rustix",
    "redb",
    "hyper",
    "hyper_util",
    "hickory_resolver",
    "tokio_websockets",
    "tempfile",
    "rpassword",
    "indicatif",
    "sd_notify",
    "getrandom",
    "rayon",
    "libc",
    "nix",
];
const IMPURE_STD: [&str; 12] = [
    "std fs",
    "std env",
    "std process",
    "std thread",
    "std os unix net",
    "std time Instant",
    "std time SystemTime",
    "std time *",
    "std io stdin",
    "std io stdout",
    "std io stderr",
    "std sync mpsc",
];
/// Of `std::net` only values.
const NET_VALUES: [&str; 7] =
    ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6", "AddrParseError"];
const IMPURE_WORDS: [&str; 6] = ["thread_rng", "OsRng", "SysRng", "UnwrapErr", "ThreadRng", "random_seed"];
const UNORDERED: [&str; 2] = ["HashMap", "HashSet"];

/// Names of a layer at or above the file's own.
pub(crate) fn layers(file: &File) -> Vec<String> {
    let rank = |name: &str| LAYERS.iter().find(|(layer, _)| *layer == name).map(|(_, rank)| *rank);
    let own = &paths::module_of(&file.path)[0];
    let Some(own_rank) = rank(own) else { return Vec::new() };
    let mut named = BTreeSet::new();
    // In tests `super` is one level more, so only `crate` counts there.
    let code = paths::without_comments(&file.text);
    let production = paths::without_comments(paths::production(&file.path, &file.text));
    named.extend(paths::all(&code).into_iter().filter(|path| path[0] == "crate").map(|path| path[1].clone()));
    let supers = paths::all(&production).into_iter().filter_map(|path| paths::resolve(&file.path, &path));
    named.extend(supers.filter_map(|path| path.into_iter().next()));
    named.retain(|name| name != own && rank(name).is_some_and(|rank| rank >= own_rank));
    named.retain(|name| !LAYER_EXCEPTIONS.contains(&(file.path.as_str(), name.as_str())));
    named.into_iter().map(|name| format!("{}: `{own}` must not name `{name}`", file.path)).collect()
}

/// `src/engine/deploy/plan.rs` → `deploy`.
pub(crate) fn engine_of(path: &str) -> Option<String> {
    let module = paths::module_of(path);
    (module[0] == "engine").then(|| module.get(1).cloned()).flatten()
}

/// What all engines may name.
const SHARED: [&str; 2] = ["contract", "pace"];

/// Names of other engines, but for the composer and what all share.
pub(crate) fn siblings(file: &File, engines: &BTreeSet<String>) -> Vec<String> {
    let Some(own) = engine_of(&file.path).filter(|own| own != "node") else { return Vec::new() };
    let code = paths::without_comments(paths::production(&file.path, &file.text));
    let named: BTreeSet<_> = paths::all(&code)
        .iter()
        .filter_map(|path| paths::resolve(&file.path, path))
        .filter(|path| path.len() > 1 && path[0] == "engine")
        .map(|path| path[1].clone())
        .filter(|name| *name != own && !SHARED.contains(&name.as_str()) && (engines.contains(name) || name == "*"))
        .collect();
    named.into_iter().map(|name| format!("{}: engines don't know each other: `{name}`", file.path)).collect()
}

/// I/O, threads, clocks, global randomness in a pure layer; hash maps in an engine.
pub(crate) fn purity(file: &File) -> Vec<String> {
    if !PURE.iter().any(|layer| file.path.starts_with(layer)) {
        return Vec::new();
    }
    let code = paths::without_comments(paths::production(&file.path, &file.text));
    let mut named = BTreeSet::new();
    for path in paths::all(&code) {
        let text = path.join(" ") + " ";
        let socket =
            path[0] == "std" && path[1] == "net" && path.get(2).is_none_or(|n| !NET_VALUES.contains(&n.as_str()));
        let std = IMPURE_STD.iter().any(|prefix| text.starts_with(&format!("{prefix} ")));
        if socket || std || IMPURE_CRATES.contains(&path[0].as_str()) || path == ["rand", "rng"] {
            named.insert(path.join("::"));
        }
    }
    let engine = file.path.starts_with("src/engine/");
    let unordered = UNORDERED.iter().filter(|_| engine);
    named
        .extend(IMPURE_WORDS.iter().chain(unordered).filter(|word| has_word(&code, word)).map(|&word| word.to_owned()));
    named.into_iter().map(|name| format!("{}: a pure layer must not name `{name}`", file.path)).collect()
}

/// No header, too many lines, work left undone.
pub(crate) fn shape(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    if !file.text.starts_with("//!") {
        complaints.push(format!("{}: must open with `//!`: what it is, what it leaves to others", file.path));
    }
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!("{}: {lines} lines, at most {LINES_MAX}", file.path));
    }
    // Put together here, so that this file doesn't contain them.
    for word in [concat!("FIX", "ME"), concat!("XX", "X")] {
        if has_word(&file.text, word) {
            complaints.push(format!("{}: {word}", file.path));
        }
    }
    complaints
}

/// The names of the limits.
pub(crate) fn limits(limits: &File) -> Vec<String> {
    let names = limits.text.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once(':'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Limits that nothing but their own definition names.
pub(crate) fn unused_limits(file: &File, sources: &[File]) -> Vec<String> {
    let definition = |line: &str, name: &str| line.starts_with(&format!("pub const {name}:"));
    let uses = |source: &File, name: &str| {
        paths::without_comments(&source.text).lines().any(|line| has_word(line, name) && !definition(line, name))
    };
    let unused = limits(file).into_iter().filter(|name| !sources.iter().any(|source| uses(source, name)));
    unused.map(|name| format!("{}: {name} is used nowhere", file.path)).collect()
}

/// Relative links, and paths of the project in backquotes, that lead nowhere.
pub(crate) fn missing_files(page: &File, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let text = without_fences(&page.text);
    let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let relative = links.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let mut missing: BTreeSet<String> = relative
        .map(|target| join(folder, target.split('#').next().unwrap_or(target)))
        .filter(|path| !exists(path))
        .collect();
    let folders = ["src/", "doc/", "tests/", "benches/", "fuzz/", "packaging/", ".ci/"];
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let quoted = text.split('`').skip(1).step_by(2);
    let named = quoted.filter(|path| folders.iter().any(|f| path.starts_with(f)) && path.chars().all(plain));
    missing.extend(named.filter(|path| !exists(path)).map(str::to_owned));
    missing.into_iter().map(|path| format!("{}: there is no {path}", page.path)).collect()
}

/// Crates of the manifest without a line in the page's tables, and the other way round.
pub(crate) fn dependencies(manifest: &str, page: &str) -> Vec<String> {
    let mut inside = false;
    let mut declared = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| inside) {
            declared.insert(name);
        }
    }
    let lines = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let explained: BTreeSet<_> = lines.map(|(name, _)| name).collect();
    let unexplained = declared.difference(&explained).map(|name| format!("doc/dependencies.md: no line for `{name}`"));
    let gone = explained.difference(&declared).map(|name| format!("doc/dependencies.md: `{name}` isn't in Cargo.toml"));
    unexplained.chain(gone).collect()
}

fn without_fences(text: &str) -> String {
    let mut inside = false;
    let kept = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !fence && !inside
    });
    kept.collect::<Vec<_>>().join("\n")
}

fn join(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn has_word(text: &str, word: &str) -> bool {
    let name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(name) && !text[at + word.len()..].starts_with(name))
}
