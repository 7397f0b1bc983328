//! Tests of configuration texts.

use super::*;

const MINIMAL: &str = "directory: /srv/site\nnum-levels: 2\nappend-only: true\n";

fn parse(text: &str) -> Result<DirectoryConfig, Vec<String>> {
    parse_directory("site", text, Path::new("/work/dir"))
        .map(|(config, _)| config)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn errors(text: &str) -> Vec<String> {
    parse(text).expect_err("must be refused")
}

/// The minimal config with one more line, which is line 4.
fn with(line: &str) -> Result<DirectoryConfig, Vec<String>> {
    parse(&format!("{MINIMAL}{line}\n"))
}

#[test]
fn minimal() {
    let config = parse(MINIMAL).expect("valid");
    assert_eq!(config, DirectoryConfig { num_levels: 2, ..DirectoryConfig::plain("site", "/srv/site") });
}

#[test]
fn lines_are_told() {
    let text = "append-only: no\nupload-keys:\n- ci\n- bob\nnum-levels: 0\n\ndirectory: site\n";
    let (_, lines) = parse_directory("site", text, Path::new("/work/dir")).expect("valid");
    assert_eq!(lines, Lines { directory: Some(7), upload_keys: vec![3, 4] });
}

/// A value of another kind doesn't hide what is wrong after it.
#[test]
fn values_of_a_wrong_shape_are_told_together() {
    assert_eq!(
        errors("directory:\nnum-levels: 99\nappend-only: [true]\nupload-keys: ci\nauto-clan: no\n"),
        [
            "line 1: `directory` takes a path",
            "line 2: `num-levels` takes a number from 0 to 16: how many components follow the name in a virtual path, not `99`",
            "line 3: `append-only` takes `true` or `false`",
            "line 4: `upload-keys` takes a list of key names, as in `[ci, bob]` for keys/ci.key and keys/bob.key",
            "line 5: unknown field `auto-clan`, did you mean `auto-clean`?",
        ]
    );
    let overrides =
        parse_overrides("a: /x\nb:\n  directory:\nc:\n  directory: ../x\n", Path::new("/")).expect_err("all three");
    assert_eq!(overrides.iter().map(|error| error.line).collect::<Vec<_>>(), [Some(1), Some(3), Some(5)]);
}

#[test]
fn everything() {
    let text = "# all fields
directory: site        # relative to the working directory
num-levels: 0
append-only: no
upload-keys:
- ci
- bob
- ci
- 2024
legacy-signatures: yes
keep-previous: true
auto-clean: true
keep-min-directories: 3
keep-max-directories: 40
keep-recent: 36h 5m
keep-list-file: ./keep.txt
";
    let config = parse(text).expect("valid");
    assert_eq!(config.directory, PathBuf::from("/work/dir/site"));
    assert_eq!((config.num_levels, config.append_only, config.legacy_signatures), (0, false, true));
    assert!(config.keep_previous && !with("").expect("valid").keep_previous);
    assert_eq!(config.upload_keys, ["ci".into(), "bob".into(), "2024".into()] as [Box<str>; 3]);
    assert_eq!(
        config.retention,
        Some(Retention {
            keep_min_directories: 3,
            keep_max_directories: 40,
            keep_recent: Duration::from_mins(36 * 60 + 5),
            keep_list_file: Some("/work/dir/keep.txt".into()),
        })
    );
}

#[test]
fn retention_defaults() {
    let retention = with("auto-clean: true").expect("valid").retention.expect("asked for");
    assert_eq!((retention.keep_min_directories, retention.keep_max_directories), (2, 100));
    assert_eq!((retention.keep_recent, retention.keep_list_file), (Duration::from_hours(48), None));
    assert_eq!(with("keep-recent: 1 day").expect("valid").retention, None);
}

#[test]
fn errors_show_no_control_characters() {
    for text in ["{\"da\\ectory\": x}\n", "\"\\e\": 1\n\"\\e\": 1\n", "num-levels: \"\\e[2J\"\n", "? \"\\e\\n\"\n: [\n"]
    {
        let errors = errors(text);
        assert!(!errors.is_empty() && !errors.concat().contains(char::is_control), "{errors:?}");
    }
    let errors = parse_overrides("\"da\\ectory\": [x]\n", Path::new("/cwd")).expect_err("a list");
    assert!(errors.iter().all(|error| !error.to_string().contains(char::is_control)), "{errors:?}");
}

#[test]
fn scrubs() {
    let read =
        |line: &str| with(line).map(|config| (config.scrub_interval.map(|interval| interval.as_secs()), config.heal));
    assert_eq!(read("scrub-interval: 30 days"), Ok((Some(30 * 24 * 3_600), false)));
    assert_eq!(read("scrub-interval: 1s\nheal: true"), Ok((Some(1), true)));
    assert_eq!(read("scrub-interval: 0s"), Ok((None, false)));
    for bad in ["10ms", "11 years", "often", "-1s", ""] {
        let errors = read(&format!("scrub-interval: {bad}")).expect_err("bad");
        assert!(errors[0].starts_with("line 4: `scrub-interval` takes a duration from one second"), "{errors:?}");
    }
    let rates = parse_daemon("scrub-rate: 5 MB").expect("valid");
    assert_eq!(rates, Rates { scrub: Some(5_000_000), ..Rates::default() });
}

#[test]
fn rates() {
    let read = |text: &str| parse_daemon(text).map_err(|errors| errors[0].to_string());
    let rates = |upload, download| Ok(Rates { upload, download, scrub: None });
    assert_eq!(read(""), rates(None, None));
    assert_eq!(read("max-upload-rate: 20 MB\n"), rates(Some(20_000_000), None));
    assert_eq!(read("max-upload-rate: 1_000_000\nmax-download-rate: 500KB/s"), rates(Some(1_000_000), Some(500_000)));
    for bad in ["fast", "1 TB", "-1", "63 KB", "99999999999 GB"] {
        let error = read(&format!("max-download-rate: {bad}")).expect_err("bad");
        assert!(error.starts_with("line 1: `max-download-rate` takes bytes per second"), "{error}");
    }
}

#[test]
fn unknown_fields_name_the_nearest() {
    assert_eq!(
        errors("directory: /x\nnum-levels: 1\nappend_only: true\nshiny: 1\n"),
        [
            "line 3: unknown field `append_only`, did you mean `append-only`?",
            "line 4: unknown field `shiny`",
            "the field `append-only` is missing: `true` or `false`",
        ]
    );
    assert_eq!(
        with("upload-key: [a]").expect_err("unknown"),
        ["line 4: unknown field `upload-key`, did you mean `upload-keys`?"]
    );
}

#[test]
fn wrong_values_say_what_is_expected() {
    for (line, expected) in [
        ("auto-clean: maybe", "line 4: `auto-clean` takes `true` or `false`, not `maybe`"),
        ("auto-clean:", "line 4: `auto-clean` takes `true` or `false`"),
        ("auto-clean: [true]", "line 4: `auto-clean` takes `true` or `false`"),
        (
            "upload-keys: ci",
            "line 4: `upload-keys` takes a list of key names, as in `[ci, bob]` for keys/ci.key and keys/bob.key",
        ),
        (
            "upload-keys: [{a: b}]",
            "line 4: `upload-keys` takes a list of key names, as in `[ci, bob]` for keys/ci.key and keys/bob.key",
        ),
        ("upload-keys: [a/b]", "line 4: bad name \"a/b\": a component contains `/` or NUL"),
        ("upload-keys: ['']", "line 4: bad name \"\": a component is empty"),
        ("upload-keys: [\"a\\tb\"]", "line 4: bad name \"a\\tb\": it contains a character that can't be printed"),
        ("keep-recent: soon", "line 4: `keep-recent` takes a duration, as in `2 days` or `36h`, not `soon`"),
        ("keep-min-directories: -1", "line 4: `keep-min-directories` takes a whole number, 0 or above, not `-1`"),
        (
            "keep-previous: true",
            "line 4: `keep-previous: true` would never keep anything: with `append-only: true` nothing is replaced; leave it \
             out, or set `append-only: false`",
        ),
        ("keep-max-directories: 1", "line 4: `keep-min-directories` (2) is above `keep-max-directories` (1)"),
        ("keep-list-file: ../x", "line 4: bad path \"../x\": `..` is not allowed, write the directory itself"),
        ("append-only: true", "line 4: the field `append-only` is given twice"),
    ] {
        assert_eq!(with(line).expect_err(line), [expected], "{line}");
    }
    for (levels, good) in [("0", true), ("16", true), ("17", false), ("-1", false), ("two", false), ("1.0", false)] {
        let result = parse(&format!("directory: /x\nappend-only: true\nnum-levels: {levels}"));
        assert_eq!(result.is_ok(), good, "{levels}: {result:?}");
    }
    for directory in ["/", "/.", "//", "''", "../x", "/a/../b", "\"a\\nb\""] {
        let errors = errors(&format!("directory: {directory}\nappend-only: true\nnum-levels: 1"));
        assert!(errors[0].starts_with("line 1: "), "{directory}: {errors:?}");
    }
}

#[test]
fn all_errors_at_once() {
    assert_eq!(
        errors("directory: /\nnum-levels: x\nappend-only: 7\nnew: 1\n").iter().map(|e| &e[..6]).collect::<Vec<_>>(),
        ["line 1", "line 2", "line 3", "line 4"]
    );
}

#[test]
fn what_is_not_a_mapping() {
    for text in ["", "# nothing\n\n", "--- {}\n"] {
        assert_eq!(errors(text).len(), 3, "{text:?}");
    }
    for text in ["- a\n- b\n", "word", "12"] {
        assert_eq!(errors(text), ["line 1: expected fields, one on each line, as in `num-levels: 2`"], "{text:?}");
    }
    for text in ["a: [", "a: b: c", "\t- x", "a: 'x", "{", "directory: /x\n---\ndirectory: /y\n", "&a x: *a\n"] {
        let errors = errors(text);
        assert!(!errors.is_empty() && errors.iter().all(|error| error.starts_with("line ")), "{text:?}: {errors:?}");
    }
}

#[test]
fn bombs_are_defused() {
    let laugh = |(name, of): (char, char)| format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 9].join(", "));
    let laughs: Vec<String> = "bcdefghij".chars().zip("abcdefghi".chars()).map(laugh).collect();
    let laughs = format!("a: &a [x, x, x, x, x, x, x, x, x]\n{}", laughs.concat());
    let deep = format!("upload-keys: {}", "[".repeat(100_000));
    let wide = format!("upload-keys: [{}]", "a, ".repeat(120_000));
    let many = (0..120_000).map(|i| format!("f{i}: 1\n")).collect::<Vec<_>>().concat();
    for text in [laughs, deep, wide, many] {
        let errors = errors(&text);
        assert!(!errors.is_empty() && errors.len() <= limits::CONFIG_PROBLEMS_MAX + 1, "{}", errors.len());
        assert!(errors.iter().all(|error| error.len() < 1_000), "{errors:?}");
    }
}

#[test]
fn names() {
    for name in ["site", "a b", "ü", "2024", "a.b-c_d"] {
        assert_eq!(check_name(name), Ok(()), "{name}");
        assert!(format!("/{name}/x").parse::<crate::model::vpath::VPath>().is_ok(), "{name}");
    }
    let long = "x".repeat(256);
    for name in ["", ".", "..", "a/b", "a\0b", "a\nb", " a", "a ", "\u{202e}a", ".ciruela-staging", &long] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
}

#[test]
fn overrides() {
    let parse = |text| {
        parse_overrides(text, Path::new("/cwd")).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    };
    let one = |name: &str, line, directory: &str| Override { name: name.into(), line, directory: directory.into() };
    assert_eq!(parse(""), Ok(vec![]));
    assert_eq!(
        parse("site: {directory: /a}\nother:\n  directory: b/./c\n"),
        Ok(vec![one("site", 1, "/a"), one("other", 2, "/cwd/b/c")])
    );
    for (text, expected) in [
        ("site: /a\n", vec!["line 1: `site` takes a mapping, as in `directory: PATH`"]),
        ("\nsite: {}\n", vec!["line 2: the field `directory` is missing: a path"]),
        ("site: {dir: /a}\n", vec!["line 1: unknown field `dir`", "line 1: the field `directory` is missing: a path"]),
        ("a: {directory: /a}\na: {directory: /b}\n", vec!["line 2: the field `a` is given twice"]),
        (
            "a: {directory: /a/..}\n",
            vec!["line 1: bad path \"/a/..\": `..` is not allowed, write the directory itself"],
        ),
    ] {
        assert_eq!(parse(text), Err(expected.into_iter().map(str::to_owned).collect::<Vec<_>>()), "{text}");
    }
}

#[test]
fn peers() {
    let text = "# the cluster\n\nnode1.example.org\nnode2:24783 # rack 2\n10.0.0.3\n10.0.0.4:1000\n::1\n[fe80::1]:99\r\nnode1.example.org\n";
    let expected = ["node1.example.org", "node2:24783", "10.0.0.3", "10.0.0.4:1000", "::1", "[fe80::1]:99"];
    assert_eq!(parse_peers(text).expect("valid"), expected.map(Box::<str>::from));
    let bad = ["a b", "a:b", "a:0", "a:65536", "1.2.3", "[::1]", "::1:x", "http://x", "a..b", "-", "ü", "300.1.1.1"];
    let errors = parse_peers(&bad.join("\n")).expect_err("all bad");
    let lines: Vec<_> = errors.iter().filter_map(|error| error.line).collect();
    assert!(errors[0].to_string().starts_with("line 1: bad peer \"a b\": expected"), "{}", errors[0]);
    assert_eq!(lines, (1..=bad.len()).collect::<Vec<_>>());
    let many = (0..=limits::PEERS_MAX).map(|i| format!("n{i}\n")).collect::<Vec<_>>().concat();
    assert_eq!(parse_peers(&many).expect_err("too many").len(), 1);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,300}") {
            let _ = parse(&text);
            let _ = parse_overrides(&text, Path::new("/"));
            let _ = parse_peers(&text);
        }

        #[test]
        fn nothing_panics_near_the_valid(
            lines in proptest::collection::vec(("(directory|num-levels|upload-keys|keep-recent|<<|&a|\\?)", "[ :\\[\\]{}*&!|>a1'\"-]{0,8}"), 0..6)
        ) {
            let text = lines.iter().map(|(key, value)| format!("{key}: {value}\n")).collect::<Vec<_>>().concat();
            let _ = parse(&text);
            let _ = parse_overrides(&text, Path::new("/"));
        }
    }
}
