//! Keeps the shape of the project: layers, pure layers, sizes, headers, limits that are used, links that lead somewhere.
//!
//! Everything is read as text, so it is fast and also sees code that isn't compiled here. The checks are functions from
//! texts to complaints; `tidy/checks.rs` has them, the tests below run them over the project, `tidy/samples.rs` over bad
//! samples, so that each check is seen to fail.

#[path = "tidy/checks.rs"]
mod checks;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/samples.rs"]
mod samples;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use checks::File;

/// Folders which hold what is made, or what only looks like ours.
const SKIPPED: [&str; 6] = ["target", ".git", "data", "corpus", "artifacts", "book"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files with that extension, below the folder or, for "", anywhere in the project.
fn files(folder: &str, extension: &str) -> Vec<File> {
    let mut folders = vec![root().join(folder)];
    let mut found: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("readable").path();
            if path.is_file() && path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            } else if path.is_dir() && !SKIPPED.iter().any(|skipped| path.ends_with(skipped)) {
                folders.push(path);
            }
        }
    }
    found.sort();
    let name = |path: &Path| path.strip_prefix(root()).expect("below the root").display().to_string();
    found.iter().map(|path| File { path: name(path), text: fs::read_to_string(path).expect("UTF-8") }).collect()
}

fn code() -> Vec<File> {
    let all: Vec<_> = ["src", "tests", "benches", "fuzz"].iter().flat_map(|folder| files(folder, "rs")).collect();
    assert!(all.len() > 40, "only {} files: is this the project?", all.len());
    all
}

fn none(complaints: impl Iterator<Item = String>) {
    let complaints: Vec<_> = complaints.collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_go_downwards() {
    none(files("src", "rs").iter().flat_map(checks::layers));
}

#[test]
fn engines_do_not_know_each_other() {
    let sources = files("src/engine", "rs");
    let engines: BTreeSet<_> = sources.iter().filter_map(|file| checks::engine_of(&file.path)).collect();
    assert!(engines.contains("access") && engines.contains("contract"), "{engines:?}");
    none(sources.iter().flat_map(|file| checks::siblings(file, &engines)));
}

#[test]
fn pure_layers_are_pure() {
    none(files("src", "rs").iter().flat_map(checks::purity));
}

#[test]
fn files_have_a_header_and_a_bounded_size() {
    none(code().iter().flat_map(checks::shape));
}

#[test]
fn every_limit_is_used() {
    let sources = files("src", "rs");
    let limits = || sources.iter().filter(|file| file.path.starts_with("src/model/limits/"));
    assert!(limits().flat_map(checks::limits).count() > 200);
    none(limits().flat_map(|file| checks::unused_limits(file, &sources)));
}

#[test]
fn pages_name_only_what_is_there() {
    let exists = |path: &str| root().join(path).exists();
    let pages = files("", "md");
    assert!(pages.iter().any(|page| page.path == "README.md") && pages.len() > 8);
    none(pages.iter().flat_map(|page| checks::missing_files(page, &exists)));
}

#[test]
fn every_dependency_is_explained() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect(path);
    none(checks::dependencies(&read("Cargo.toml"), &read("doc/dependencies.md")).into_iter());
}

#[test]
fn the_book_has_every_page() {
    let summary = fs::read_to_string(root().join("doc/SUMMARY.md")).expect("doc/SUMMARY.md");
    let pages = files("doc", "md").into_iter().map(|page| page.path.replace("doc/", ""));
    let left_out = pages.filter(|page| page != "SUMMARY.md" && !summary.contains(&format!("({page})")));
    none(left_out.map(|page| format!("doc/{page}: not in doc/SUMMARY.md")));
}
