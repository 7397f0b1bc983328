//! Configuration texts: whatever they hold, an answer comes, within bounds, and each error is short.
#![no_main]

use std::path::Path;

use ciruela::format::config::{ConfigError, check_name, parse_directory, parse_overrides, parse_peers};
use ciruela::model::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse_directory("fuzz", text, Path::new("/cwd")) {
        Ok((config, lines)) => {
            assert_eq!(lines.upload_keys.len(), config.upload_keys.len());
            assert!(config.directory.is_absolute() && config.num_levels <= limits::NUM_LEVELS_MAX);
            assert!(config.directory.components().all(|part| part.as_os_str() != ".."));
            assert!(config.upload_keys.iter().all(|name| check_name(name).is_ok()));
        }
        Err(errors) => check(&errors),
    }
    match parse_overrides(text, Path::new("/cwd")) {
        Ok(overrides) => assert!(overrides.iter().all(|item| item.directory.is_absolute())),
        Err(errors) => check(&errors),
    }
    match parse_peers(text) {
        Ok(peers) => assert!(peers.len() <= limits::PEERS_MAX),
        Err(errors) => check(&errors),
    }
    if check_name(text).is_ok() {
        assert!(format!("/{text}/x").parse::<ciruela::model::vpath::VPath>().is_ok());
    }
});

fn check(errors: &[ConfigError]) {
    assert!(!errors.is_empty());
    for error in errors {
        let shown = error.to_string();
        assert!(!shown.is_empty() && !shown.contains('\x1b'), "{shown:?}");
    }
}
