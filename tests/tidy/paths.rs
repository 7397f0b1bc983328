//! Finds the `a::b::c` of Rust code as text: comments are cut, `use` trees are unfolded, `super` is resolved.

/// The code without comments. A `//` inside a text counts as a comment too, unless a colon stands before it, as in a URL.
pub(crate) fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let comment = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
        code.push_str(&line[..comment.unwrap_or(line.len())]);
        code.push('\n');
    }
    code
}

/// What comes before the tests, which stand last in a file; nothing if the whole file is tests.
pub(crate) fn production<'a>(path: &str, text: &'a str) -> &'a str {
    if path.ends_with("/tests.rs") || path.contains("/tests/") {
        return "";
    }
    let tests = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|at| {
        let rest = text[at + "#[cfg(test)]".len()..].trim_start();
        rest.starts_with("mod ") || rest.starts_with("pub mod ") || rest.starts_with("pub(crate) mod ")
    });
    &text[..tests.unwrap_or(text.len())]
}

/// Every path of at least two parts in the code, trees unfolded: `a::{b, c::d}` gives `a b` and `a c d`.
pub(crate) fn all(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("::").map(|at| at + from) {
        let start = code[..at].rfind(|c| !is_name(c)).map_or(0, |before| before + 1);
        if start < at {
            let rest = tree(&code[start..], &[], &mut found);
            from = code.len() - rest.len();
        }
        from = from.max(at + 2);
    }
    found.retain(|path| path.len() > 1);
    found
}

/// The path as seen from the root of the crate; `None` if it starts in another crate or at a local name.
pub(crate) fn resolve(file: &str, path: &[String]) -> Option<Vec<String>> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    if path[0] == "crate" {
        return Some(path[1..].to_vec());
    }
    let module = module_of(file);
    if supers == 0 || supers > module.len() {
        return None;
    }
    Some(module[..module.len() - supers].iter().chain(&path[supers..]).cloned().collect())
}

/// `src/engine/deploy/plan.rs` → `engine deploy plan`.
pub(crate) fn module_of(file: &str) -> Vec<String> {
    let inside = file.trim_start_matches("src/").trim_end_matches(".rs");
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    inside.split('/').map(str::to_owned).collect()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Reads one tree, adds its paths, returns what follows it.
fn tree<'a>(text: &'a str, prefix: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = prefix.to_vec();
    let mut rest = text.trim_start();
    loop {
        if let Some(inside) = rest.strip_prefix('{') {
            return branches(inside, &path, found);
        }
        let end = rest.find(|c| !is_name(c) && c != '*').unwrap_or(rest.len());
        if end == 0 {
            found.push(path);
            return rest;
        }
        path.push(rest[..end].to_owned());
        rest = &rest[end..];
        let Some(more) = rest.strip_prefix("::") else {
            found.push(path);
            return rest;
        };
        rest = more.trim_start();
    }
}

fn branches<'a>(mut rest: &'a str, path: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return after;
        }
        rest = tree(rest, path, found);
        // `as name`, up to the next branch.
        let Some(end) = rest.find([',', '}']) else { return "" };
        rest = rest[end..].strip_prefix(',').unwrap_or(&rest[end..]);
    }
}
