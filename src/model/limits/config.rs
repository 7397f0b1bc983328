//! Configuration, keys and the agents that hold them.

use std::time::Duration;

/// Bytes of a directory config, key file or peers file.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;
/// Files in `configs/` or `keys/`.
pub const CONFIG_FILES_MAX: usize = 10_000;
/// Keys which one directory accepts.
pub const KEYS_PER_DIRECTORY_MAX: usize = 1_000;
/// Bytes of a private key's text.
pub const PRIVATE_KEY_BYTES_MAX: usize = 64 << 10;
/// Rounds of bcrypt that an encrypted private key may ask for (`ssh-keygen -a`): about a minute.
pub const KEY_BCRYPT_ROUNDS_MAX: u32 = 10_000;
/// Characters of a key's comment that are shown.
pub const KEY_COMMENT_CHARS_MAX: usize = 128;
/// Bytes of one message of an ssh-agent, the bound which OpenSSH has too.
pub const AGENT_MESSAGE_BYTES_MAX: usize = 256 << 10;
/// An ssh-agent that doesn't say which keys it has for this long is left out.
pub const AGENT_LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// An ssh-agent may ask its user before it signs; it gets this long.
pub const AGENT_SIGN_TIMEOUT: Duration = Duration::from_mins(1);
/// How often the client asks for the passphrase of one key.
pub const PASSPHRASE_TRIES_MAX: usize = 3;
/// Peers in `peers.txt`.
pub const PEERS_MAX: usize = 10_000;
/// YAML nodes (keys, values, list items) in one configuration file.
pub const CONFIG_NODES_MAX: usize = 100_000;
/// Nesting of YAML in a configuration file.
pub const CONFIG_DEPTH_MAX: usize = 8;
/// Problems reported for one configuration file.
pub const CONFIG_PROBLEMS_MAX: usize = 100;
/// Components after the key which a directory config may ask for.
pub const NUM_LEVELS_MAX: usize = 16;
